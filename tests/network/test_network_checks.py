"""What is measured is one function, the mean that it is said to be; what is not is said."""

import collections
import dataclasses
import functools
import warnings

import numpy as np
import pytest

import suspalign_fast as sa

from ..helpers.networks import (
    as_tensors,
    classes,
    gaussian_data,
    half_square,
    linear,
    perceptron,
    torch,
)

nn = torch.nn
CROSS_ENTROPY = nn.CrossEntropyLoss()
measure = functools.partial(sa.network.measure_row, num_dominant=2)
MEAN = "loss_fn must be the mean over a batch, each sample counted alike"


# --- one function --------------------------------------------------------------------------------


class Padded(nn.Module):
    """A transformer of sequences that end in zeros, which it masks."""

    def __init__(self, *, is_frozen=False):
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, dropout=0.0)
        self.encoder, self.last = nn.TransformerEncoder(layer, 1), nn.Linear(4, 3)
        self.encoder.requires_grad_(not is_frozen)

    def forward(self, x):
        x = x.reshape(len(x), -1, 4)
        return self.last(self.encoder(x, src_key_padding_mask=(x == 0.0).all(2)).mean(1))


class Asking(nn.Module):
    """A model that is another function where no gradient is wanted."""

    def __init__(self):
        super().__init__()
        self.inner = perceptron()

    def forward(self, x):
        return (1.0 if torch.is_grad_enabled() else 2.0) * self.inner(x[:, :6])


def padded_data():
    x, y = classes(40, inputs=16)
    x[::2, 8:] = 0.0
    x[::3, 4:] = 0.0
    return x, y


@pytest.mark.parametrize("made", [Padded, functools.partial(Padded, is_frozen=True), Asking])
def test_the_loss_is_that_of_gradient_and_curvature(made):
    torch.manual_seed(0)
    model, (x, y) = made().double().eval(), padded_data()
    encoder = model.encoder if hasattr(model, "encoder") else model.inner
    encoder.train()  # as in training, where torch's fast path is off; there is no dropout
    expected = CROSS_ENTROPY(model(x), y).item()
    encoder.eval()
    before = torch.backends.mha.get_fastpath_enabled()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "there is no visible gap")
        row = measure(model, CROSS_ENTROPY, (x, y), batch_size=5)
    assert row.loss == pytest.approx(expected, rel=1e-6)
    assert torch.backends.mha.get_fastpath_enabled() == before


@pytest.mark.parametrize("is_on", [True, False])
def test_the_fast_path_is_as_before_after_an_error(is_on):
    torch.backends.mha.set_fastpath_enabled(is_on)
    try:
        with pytest.raises(ValueError, match="loss must be finite"):
            measure(perceptron(), lambda o, t: o.sum() * torch.nan, classes(), batch_size=5)
        assert torch.backends.mha.get_fastpath_enabled() == is_on
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


# --- the mean over samples -----------------------------------------------------------------------


def total(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets, reduction="sum")


def weighted(*weights):
    return nn.CrossEntropyLoss(weight=torch.tensor(weights, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_types_are_checked_too(dtype):
    model, (x, y) = perceptron().to(dtype), classes()
    row = measure(model, CROSS_ENTROPY, (x.to(dtype), y), batch_size=5)
    exact = measure(perceptron(), CROSS_ENTROPY, (x, y), batch_size=5)
    assert row.critical_step_size == pytest.approx(exact.critical_step_size, rel=0.1)
    for loss_fn in (total, lambda o, t: 1.5 * total(o, t) / len(t) ** 0.8):
        with pytest.raises(ValueError, match=MEAN):
            measure(model, loss_fn, (x.to(dtype), y), batch_size=5)


def test_a_random_loss_of_a_short_type_is_refused():
    def loss_fn(outputs, targets):
        return CROSS_ENTROPY(outputs, targets) * (1.0 + torch.rand(()))

    model, (x, y) = perceptron().bfloat16(), classes()
    with pytest.raises(ValueError, match="loss must be the same whenever it is evaluated"):
        measure(model, loss_fn, (x.bfloat16(), y), batch_size=5)


def test_wrong_second_derivatives_of_a_short_type_are_refused():
    torch.manual_seed(0)
    last = nn.utils.parametrizations.weight_norm(nn.Linear(8, 3))
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), last).bfloat16()
    x, y = classes()
    with pytest.raises(ValueError, match="differentiates twice rightly"):
        measure(model, CROSS_ENTROPY, (x.bfloat16(), y), batch_size=5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("order", ["drawn", "sorted", "untrained"])
def test_class_weights_are_refused(seed, order):
    model, (x, y) = perceptron(seed), classes(400, seed=seed)
    if order == "sorted":
        x, y = x[y.argsort()], y.sort().values
    if order == "untrained":  # all samples have the same loss
        nn.init.zeros_(model[-1].weight)
        nn.init.zeros_(model[-1].bias)
    for loss_fn in (weighted(1.0, 5.0, 0.2), weighted(1.0, 1.0, 1.1)):
        with pytest.raises(ValueError, match=MEAN):
            measure(model, loss_fn, (x, y), batch_size=5)
    rare = torch.zeros(400, dtype=torch.long)
    rare[7] = 1
    with pytest.raises(ValueError, match=MEAN):
        measure(model, weighted(1.0, 50.0, 1.0), (x, rare), batch_size=5)


class OfParts(nn.Module):
    """A model of inputs in a dictionary."""

    def __init__(self):
        super().__init__()
        self.inner = perceptron()

    def forward(self, inputs):
        return self.inner(inputs["x"])


def in_batches(size, of=lambda x: x):
    x, y = classes()
    return [(of(x[i : i + size]), y[i : i + size]) for i in range(0, len(y), size)]


def as_dict(x):
    return {"x": x, "unused": 3}


@pytest.mark.parametrize(("model", "data", "noise"), [
    (OfParts, in_batches(20, as_dict), in_batches(5, as_dict)),
    (OfParts, in_batches(1, as_dict)[:6], in_batches(1, as_dict)[:6]),
    (perceptron, in_batches(1)[:6], in_batches(1)[:6]),
    (perceptron, in_batches(1)[:6], in_batches(5)),
    (perceptron, [(x[:1], y[:1]) if i else (x, y) for i, (x, y) in enumerate(in_batches(5))],
     in_batches(5)),
])  # fmt: skip
def test_sums_are_found_out(model, data, noise):
    with pytest.raises(ValueError, match=MEAN):
        measure(model(), total, data, noise_batches=noise)
    with pytest.raises(ValueError, match=MEAN):
        measure(model(), weighted(1.0, 5.0, 0.2), data, noise_batches=noise)
    measure(model(), CROSS_ENTROPY, data, noise_batches=noise)


def test_inputs_that_cannot_be_cut_are_a_warning():
    class Graph:
        def __init__(self, x):
            self.x = x

    class OfGraphs(OfParts):
        def forward(self, inputs):
            return self.inner(inputs.x)

    data = in_batches(20, Graph)
    with pytest.warns(RuntimeWarning, match=r"not tested: samples of inputs .* type Graph"):
        row = measure(OfGraphs(), CROSS_ENTROPY, data, noise_batches=data)
    same = in_batches(20)
    expected = measure(perceptron(), CROSS_ENTROPY, same, noise_batches=same)
    np.testing.assert_array_equal(row.power_sums, expected.power_sums)


# --- targets that are ignored --------------------------------------------------------------------


class Tagger(nn.Module):
    """Classes of every place of a sequence."""

    def __init__(self):
        super().__init__()
        self.inner = perceptron()

    def forward(self, x):
        return self.inner(x.reshape(len(x), -1, 6)).movedim(2, 1)


def sequences(ignored=-100):
    x, y = classes(48, inputs=30)[0], classes(240)[1].reshape(48, 5)
    for i in range(48):  # more and more padding
        y[i, 5 - i // 12 :] = ignored
    return x, y


@pytest.mark.parametrize("ignored", [-100, 2])
def test_ignored_targets_count_for_nothing(ignored):
    x, y = sequences(ignored)
    model, loss_fn = Tagger(), nn.CrossEntropyLoss(ignore_index=ignored)
    parts = [(x[i : i + 12], y[i : i + 12]) for i in range(0, 48, 12)]
    empty = (x[:3], torch.full((3, 5), ignored))
    rows = [
        measure(model, loss_fn, data, noise_batches=parts)
        for data in ([(x, y)], parts, [*parts, empty])
    ]
    assert rows[0].loss == pytest.approx(loss_fn(model(x), y).item(), rel=1e-12)
    for row in rows[1:]:
        np.testing.assert_allclose(row.power_sums, rows[0].power_sums, rtol=1e-9)


def test_ignored_targets_of_a_function_are_refused_unless_it_says_so():
    x, y = sequences()

    def loss_fn(outputs, targets):
        return nn.functional.cross_entropy(outputs, targets, ignore_index=-100)

    parts = [(x[i::4], y[i::4]) for i in range(4)]
    with pytest.raises(ValueError, match=MEAN + r".* ignore_index"):
        measure(Tagger(), loss_fn, parts, noise_batches=parts)
    loss_fn.ignore_index = -100
    row = measure(Tagger(), loss_fn, parts, noise_batches=parts)
    whole = measure(Tagger(), CROSS_ENTROPY, (x, y), noise_batches=parts)
    np.testing.assert_allclose(row.power_sums, whole.power_sums, rtol=1e-9)


# --- the tolerance -------------------------------------------------------------------------------


def close_together(size=200):
    x, y = gaussian_data(2 * size, np.linspace(1.0, 0.2, size))
    return linear(np.ones(size)), half_square, as_tensors(x, y)


@pytest.mark.filterwarnings("ignore:there is no visible gap")
def test_a_tolerance_that_is_not_reached_is_said():
    model, loss_fn, data = close_together()
    with pytest.warns(RuntimeWarning, match=r"tolerance = 1e-07 .* 72 .* of lambda_20") as said:
        row = measure(model, loss_fn, data, num_dominant=20, batch_size=10, tolerance=1e-7)
    assert row.residual > 1e-7
    assert f"{row.residual:.2g}" in str(said[0].message)


@pytest.mark.filterwarnings("ignore:there is no visible gap")
def test_a_tolerance_that_is_not_reached_is_said_once():
    model, loss_fn, data = close_together()
    probe = sa.network.Probe(model, loss_fn, data, 5, batch_size=10, tolerance=1e-9)
    with pytest.warns(RuntimeWarning, match=r"tolerance = 1e-09 was not reached"):
        probe.observe(0.1)
    probe.observe(0.1)
    probe = sa.network.Probe(model, loss_fn, data, 5, batch_size=10, tolerance=0.0)
    assert probe.observe(0.1).residual < 1e-9


# --- what torch has besides ----------------------------------------------------------------------


def test_factories_of_another_default_device():
    model, data, x = perceptron(width=12), classes(), classes()[0]
    options = {"num_dominant": 2, "batch_size": 5}
    expected = sa.network.measure_row(model, CROSS_ENTROPY, data, **options)
    torch.set_default_device("meta")
    try:
        row = sa.network.measure_row(model, CROSS_ENTROPY, data, **options)
        probe = sa.network.Probe(model, CROSS_ENTROPY, data, **options)
        probe.observe(0.1)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "about .* eigenvalues are negative")
            sa.network.surrogate(probe, steps=5, num_vectors=1, noise_batches=2)
        sa.network.estimate_online(probe, batch_size=10, groups=3)
        sa.network.verify(model, CROSS_ENTROPY, data, **options, repeats=2)
    finally:
        torch.set_default_device(None)
    assert torch.empty(1).device == x.device
    np.testing.assert_array_equal(row.power_sums, expected.power_sums)


Pair = collections.namedtuple("Pair", ["logits", "extra"])


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    extra: object


class Plain:
    def __init__(self, logits, extra):
        self.logits, self.extra = logits, extra


class Structured(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.inner, self.kind = perceptron(), kind

    def forward(self, x):
        return self.kind(self.inner(x), self.inner[0].weight)


@pytest.mark.parametrize("kind", [Pair, Output, Plain])
def test_outputs_in_structures(kind):
    def loss_fn(outputs, targets):
        return CROSS_ENTROPY(outputs.logits, targets) + 0.1 * outputs.extra.square().sum()

    model, data = Structured(kind), classes()
    found = sa.network.verify(model, loss_fn, data, 2, batch_size=5, repeats=2)
    assert np.isfinite(found.states[0].row.alignment)

    def penalised(outputs, targets):
        return loss_fn(outputs, targets) + model.inner[0].bias.square().sum()

    with pytest.raises(ValueError, match="loss_fn must depend on the parameters through"):
        sa.network.verify(model, penalised, data, 2, batch_size=5, repeats=2)


class Words(nn.Module):
    def __init__(self, kind, *, sparse):
        super().__init__()
        self.words, self.last = kind(20, 4, sparse=sparse), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(self.words(x).reshape(len(x), -1, 4).mean(1).tanh())


class OfFunction(Words):
    def forward(self, x):
        found = nn.functional.embedding(x, self.words.weight, sparse=self.words.sparse)
        return self.last(found.mean(1).tanh())


@pytest.mark.parametrize("kind", [Words, OfFunction])
def test_sparse_embeddings_are_measured_as_dense_ones(kind):
    data = (torch.arange(180).reshape(60, 3) * 7 % 20, classes()[1])
    rows = []
    for sparse in (True, False):
        torch.manual_seed(0)
        model = kind(nn.Embedding, sparse=sparse).double()
        rows.append(measure(model, CROSS_ENTROPY, data, batch_size=5))
        assert model.words.sparse is sparse
    np.testing.assert_array_equal(rows[0].power_sums, rows[1].power_sums)


@pytest.mark.parametrize("sparse", [True, False])
def test_what_torch_cannot_differentiate_twice_is_one_sentence(sparse):
    torch.manual_seed(0)
    model = Words(nn.EmbeddingBag, sparse=sparse).double()
    data = (torch.arange(180).reshape(60, 3) * 7 % 20, classes()[1])
    with pytest.raises(ValueError, match="model must be one that torch can differentiate twice"):
        measure(model, CROSS_ENTROPY, data, batch_size=5)
    assert model.words.sparse is sparse


class Checkpointed(nn.Module):
    """A checkpoint of all of a model, or of its last layer."""

    def __init__(self, *, use_reentrant, first=0):
        super().__init__()
        self.inner, self.use_reentrant, self.first = perceptron(), use_reentrant, first

    def forward(self, x):
        x = self.inner[: self.first](x.clone().requires_grad_())
        return torch.utils.checkpoint.checkpoint(
            self.inner[self.first :], x, use_reentrant=self.use_reentrant
        )


def test_checkpoints_work_or_are_refused_in_one_sentence():
    data = classes()
    row = measure(Checkpointed(use_reentrant=False), CROSS_ENTROPY, data, batch_size=5)
    expected = measure(perceptron(), CROSS_ENTROPY, data, batch_size=5)
    np.testing.assert_allclose(row.power_sums, expected.power_sums, rtol=1e-9)
    for first in (0, 2):
        model = Checkpointed(use_reentrant=True, first=first)
        with pytest.raises(ValueError, match=r"checkpoints with use_reentrant=True, .*=False will"):
            measure(model, CROSS_ENTROPY, data, batch_size=5)
        with pytest.raises(ValueError, match="checkpoints with use_reentrant=True"):
            sa.network.verify(model, CROSS_ENTROPY, data, 2, batch_size=5)


@pytest.mark.parametrize("rows", [0, 1])
def test_append_to_a_file_of_no_rows(rows, tmp_path):
    path, options = tmp_path / "rows.h5", {"batch_size": 5, "append": True}
    given = perceptron(), CROSS_ENTROPY, classes(), 2
    for _ in range(2):  # of none, again
        with sa.network.Probe(*given, path=path, **options) as probe:
            assert len(probe.trace) == 0
    with sa.network.Probe(*given, path=path, **options) as probe:
        for _ in range(rows):
            probe.observe(0.1)
    assert sa.load_trace(path).step.tolist() == list(range(rows))
    with sa.network.Probe(*given, path=path, **options) as probe:  # all rows again
        assert len(probe.trace) == 0


def test_append_to_what_is_no_file_of_rows_leaves_it(tmp_path):
    path = tmp_path / "rows.h5"
    for text in (b"", b"my notes"):
        path.write_bytes(text)
        with pytest.raises(OSError, match=r"rows.h5"):
            sa.network.Probe(
                perceptron(), CROSS_ENTROPY, classes(), 2, batch_size=5, path=path, append=True
            )
        assert path.read_bytes() == text


@pytest.mark.parametrize("how", ["overwrite", "append"])
def test_a_file_that_is_there_stays_until_the_first_row(how, tmp_path):
    path = tmp_path / "rows.h5"
    probed = functools.partial(sa.network.Probe, num_dominant=2, batch_size=5, path=path)
    with probed(perceptron(), CROSS_ENTROPY, classes()) as probe:
        probe.observe(0.1)
    before = path.read_bytes()
    bad = perceptron()
    with torch.no_grad():
        bad[0].weight[0, 0] = float("nan")
    again = probed(bad, CROSS_ENTROPY, classes(), **{how: True})
    assert path.read_bytes() == before
    assert len(again.trace) == 0
    with pytest.raises(ValueError, match="finite"):
        again.observe(0.1)
    again.close("failed")
    assert path.read_bytes() == before
    with probed(perceptron(), CROSS_ENTROPY, classes(), **{how: True}) as probe:
        probe.observe(0.2)
    assert sa.load_trace(path).step_size.tolist() == [0.2]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_training_goes_on_where_its_loss_is_not_finite(value, tmp_path):
    model, path = perceptron(), tmp_path / "rows.h5"
    with sa.network.Probe(model, CROSS_ENTROPY, classes(), 2, batch_size=5, path=path) as probe:
        probe.observe(0.1)
        before = model[0].weight[0, 0].item()
        with torch.no_grad():
            model[2].weight[0, 0] = value
        with pytest.warns(RuntimeWarning, match=r"there is no row at step 1, .* loss must be fin"):
            assert probe.observe(0.1) is None
        assert probe.observe(0.1) is None  # said once
        with pytest.raises(ValueError, match="loss must be finite"):
            probe.measure(0.1)
    trace = sa.load_trace(path)
    assert (trace.step.tolist(), trace.status) == ([0], "diverged")
    with pytest.raises(ValueError, match="loss must be finite"):  # from the start: bad input
        sa.network.Probe(model, CROSS_ENTROPY, classes(), 2, batch_size=5).observe(0.1)
    assert model[0].weight[0, 0].item() == before


def test_a_loss_that_is_finite_again_has_rows_again(tmp_path):
    model, path = perceptron(), tmp_path / "rows.h5"
    with sa.network.Probe(model, CROSS_ENTROPY, classes(), 2, batch_size=5, path=path) as probe:
        for bias in (0.0, float("inf"), 0.0):
            with torch.no_grad():
                model[2].bias[0] = bias
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "there is no row at step 1")
                probe.observe(0.1)
    trace = sa.load_trace(path)
    assert (trace.step.tolist(), trace.status) == ([0, 2], "complete")


def test_inputs_in_a_structure_are_as_many_as_their_tensors():
    x, y = classes()
    given = OfParts(), CROSS_ENTROPY
    row = measure(*given, ({"x": x}, y), noise_batches=in_batches(5, as_dict))
    expected = measure(perceptron(), CROSS_ENTROPY, (x, y), noise_batches=in_batches(5))
    np.testing.assert_array_equal(row.power_sums, expected.power_sums)
    with pytest.raises(ValueError, match=r"noise_batches must be given where .* not one pair"):
        measure(*given, ({"x": x}, y), batch_size=5)
    for inputs in ({"x": x[:7]}, (x[:7], x[:7]), x[:7], [1.0] * 7):
        with pytest.raises(ValueError, match="as many inputs as targets, got 7 and 60"):
            measure(*given, (inputs, y), noise_batches=in_batches(5))
    with pytest.raises(ValueError, match=r"data must be pairs .* targets that are one number"):
        measure(*given, (x, y[0]), batch_size=5)


def test_inputs_of_several_tensors():
    class OfTwo(OfParts):
        def forward(self, inputs):
            return self.inner(inputs[0] + inputs[1])

    (x, y), noise = classes(), in_batches(5, lambda x: [x / 2, x / 2])
    expected = measure(perceptron(), CROSS_ENTROPY, (x, y), noise_batches=in_batches(5))
    for kind in (tuple, list):
        row = measure(OfTwo(), CROSS_ENTROPY, (kind((x / 2, x / 2)), y), noise_batches=noise)
        np.testing.assert_allclose(row.power_sums, expected.power_sums, rtol=1e-9)
