"""Networks of many kinds: their curvature by differences of gradients, and nothing is changed."""

import copy
import warnings

import numpy as np
import pytest

import suspalign_fast as sa

from ..helpers.networks import classes, perceptron, torch

nn = torch.nn
CROSS_ENTROPY = nn.CrossEntropyLoss()
measure = sa.network.measure_row


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.norm(x + torch.tanh(self.first(x))))


class Shared(nn.Module):
    """A module under two names, as many write it."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
        self.layers = nn.Sequential(self.first, nn.Tanh(), self.last)

    def forward(self, x):
        return self.layers(x)


class Unused(Shared):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 2)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(2, 1, 3, batch_first=True, dropout=0.0)
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.layer(x.reshape(-1, 3, 2)).flatten(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.last = nn.LSTM(2, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x):
        return self.last(self.lstm(x.reshape(-1, 3, 2))[0][:, -1])


def normalised():
    last = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 3))
    return nn.Sequential(nn.Linear(6, 8), nn.GroupNorm(2, 8), nn.SiLU(), last)


MODELS = {
    "layer norm": Residual, "shared module": Shared, "unused head": Unused,
    "attention": Attention, "LSTM": Recurrent, "group norm and spectral norm": normalised,
}  # fmt: skip


def made(name):
    torch.manual_seed(3)
    return MODELS[name]().double()


def gradient(model, loss_fn, x, y):
    loss = loss_fn(model(x), y)
    parts = torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)
    return torch.cat([part.reshape(-1) for part in parts])


def hessian(model, loss_fn, x, y, step=1e-5):
    """The matrix by central differences of gradients."""
    model = copy.deepcopy(model).eval()
    point = nn.utils.parameters_to_vector(model.parameters()).detach()
    columns = []
    for i in range(len(point)):
        ends = []
        for sign in (1.0, -1.0):
            there = point.clone()
            there[i] += sign * step
            nn.utils.vector_to_parameters(there, model.parameters())
            ends.append(gradient(model, loss_fn, x, y))
        columns.append((ends[0] - ends[1]) / (2.0 * step))
    return torch.stack(columns, dim=1)


def sums(matrix, g, vectors):
    pulled = matrix @ g
    inside = [vectors @ (vectors.T @ part) for part in (g, pulled)]
    bands = (inside, [g - inside[0], pulled - inside[1]])
    return np.array([[float(a @ a), float(a @ b), float(b @ b)] for a, b in bands])


@pytest.mark.parametrize("name", MODELS)
def test_rows_are_those_of_the_hessian(name):
    model, (x, y) = made(name).eval(), classes()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "there is no visible gap")
        row = measure(model, CROSS_ENTROPY, (x, y), 2, batch_size=5, tolerance=0.0)
    matrix, g = hessian(model, CROSS_ENTROPY, x, y), gradient(model, CROSS_ENTROPY, x, y)
    values = torch.linalg.eigvalsh(matrix).flip(0)[:3].numpy()
    np.testing.assert_allclose(row.top_eigenvalues, values, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(row.power_sums[:, 1:], sums(matrix, g, row.vectors), rtol=1e-6)


@pytest.mark.parametrize("curvature", ["hessian", "ggn"])
def test_the_gauss_newton_matrix_of_a_linear_model_is_its_hessian(curvature):
    torch.manual_seed(0)
    model, (x, y) = nn.Linear(6, 3).double(), classes()
    row = measure(model, CROSS_ENTROPY, (x, y), 1, batch_size=5, curvature=curvature)
    matrix, g = hessian(model, CROSS_ENTROPY, x, y), gradient(model, CROSS_ENTROPY, x, y)
    np.testing.assert_allclose(row.power_sums[:, 1:], sums(matrix, g, row.vectors), rtol=1e-6)


def test_the_gauss_newton_matrix_of_a_perceptron():
    model, (x, y) = perceptron(), classes()
    row = measure(model, CROSS_ENTROPY, (x, y), 2, batch_size=5, curvature="ggn")
    parameters = dict(model.named_parameters())

    def outputs(*values):
        named = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(model, named, (x,))

    parts = torch.autograd.functional.jacobian(outputs, tuple(parameters.values()))
    jacobian = torch.cat([p.reshape(len(x), 3, -1) for p in parts], dim=2)
    p = torch.softmax(model(x).detach(), 1)
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    matrix = torch.einsum("nai,nab,nbj->ij", jacobian, inner, jacobian) / len(x)
    expected = sums(matrix, gradient(model, CROSS_ENTROPY, x, y), row.vectors)
    np.testing.assert_allclose(row.power_sums[:, 1:], expected, rtol=1e-9)


def test_one_dominant_direction_of_many():
    model, data = perceptron(width=12), classes()
    one, two = (measure(model, CROSS_ENTROPY, data, k, batch_size=5, tolerance=0.0) for k in (1, 2))
    np.testing.assert_allclose(one.top_eigenvalues, two.top_eigenvalues[:2], rtol=1e-9)
    assert one.vectors.shape == (123, 1)


def test_fewer_distinct_eigenvalues_than_directions_asked_for():
    """Three samples of one output: a Gauss-Newton matrix of rank 3."""
    model = perceptron(width=12, outputs=1)
    x, y = torch.randn(3, 6, dtype=torch.float64), torch.randn(3, 1, dtype=torch.float64)
    options = {"noise_batches": [(x[:1], y[:1]), (x[1:], y[1:])], "curvature": "ggn"}
    for k in (4, 5, 60):
        row = measure(model, nn.MSELoss(), (x, y), k, **options)
        assert row.top_eigenvalues.shape == (k + 1,)
        assert (row.top_eigenvalues[:3] > 1e-3).all()
        np.testing.assert_allclose(row.top_eigenvalues[3:], 0.0, atol=1e-9)


@pytest.mark.parametrize("seed", [0, 5, 16, 24, 26])
def test_no_top_eigenvalue_is_passed_over(seed):
    model = perceptron(seed, width=12)
    x, y = classes(seed=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "there is no visible gap")
        crude, exact = (
            measure(model, CROSS_ENTROPY, (x, y), 2, batch_size=5, tolerance=tolerance)
            for tolerance in (0.02, 0.0)
        )
    np.testing.assert_allclose(crude.top_eigenvalues, exact.top_eigenvalues, rtol=0.03)


# --- penalties -----------------------------------------------------------------------------------


def penalised(model, strength=0.1):
    def loss(outputs, targets):
        squares = sum((p**2).sum() for p in model.parameters())
        return CROSS_ENTROPY(outputs, targets) + strength * squares

    return loss


def test_a_penalty_in_the_loss_is_in_gradient_and_curvature():
    model, (x, y) = perceptron(), classes()
    plain = measure(model, CROSS_ENTROPY, (x, y), 2, batch_size=5, tolerance=0.0)
    row = measure(model, penalised(model), (x, y), 2, batch_size=5, tolerance=0.0)
    np.testing.assert_allclose(row.top_eigenvalues, plain.top_eigenvalues + 0.2, rtol=1e-9)
    g = gradient(model, penalised(model), x, y)
    assert row.power_sums[:, 1].sum() == pytest.approx(float(g @ g), rel=1e-9)


def test_a_penalty_in_the_loss_is_refused_where_it_cannot_be_followed():
    model, data = perceptron(), classes()
    with pytest.raises(ValueError, match="loss_fn must depend on the parameters through the model"):
        sa.network.verify(model, penalised(model), data, 2, batch_size=5)
    with pytest.raises(ValueError, match="curvature must be 'hessian' where loss_fn takes"):
        measure(model, penalised(model), data, 2, batch_size=5, curvature="ggn")


def test_weight_decay_is_said_not_to_be_measured():
    model = perceptron()
    probe = sa.network.Probe(model, CROSS_ENTROPY, classes(), 2, batch_size=5, every=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-3)
    with pytest.warns(RuntimeWarning, match="weight_decay, which rows do not see"):
        probe.observe(optimizer)
    probe.observe(optimizer)  # once is enough


# --- nothing is changed --------------------------------------------------------------------------


def test_a_shared_module_keeps_its_parameters():
    model, data = made("shared module"), classes()
    before = {id(p) for p in model.parameters()}
    measure(model, CROSS_ENTROPY, data, 2, batch_size=5)
    sa.network.verify(model, CROSS_ENTROPY, data, 2, batch_size=5, repeats=2)
    assert {id(p) for p in model.parameters()} == before
    assert isinstance(model.first.weight, nn.Parameter)


class Merging(nn.Linear):
    """Merges an adapter into its weight where it is told to evaluate, as some libraries do."""

    def __init__(self):
        super().__init__(6, 3)
        self.adapter = nn.Parameter(torch.ones(3, 6))
        self.merged = False

    def train(self, mode=True):
        super().train(mode)
        if mode == self.merged:
            self.weight.data += (-1.0 if mode else 1.0) * self.adapter.data
            self.merged = not mode
        return self

    def forward(self, x):
        weight = self.weight if self.merged else self.weight + self.adapter
        return nn.functional.linear(x, weight, self.bias)


class Counting(nn.Module):
    """Counts its calls in a buffer, also in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.inner = perceptron()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        return self.inner(x)


@pytest.mark.parametrize("kind", [Merging, Counting])
def test_layers_with_a_state_of_their_own_are_as_before(kind):
    torch.manual_seed(0)
    model, data = kind().double(), classes()
    before = copy.deepcopy(model.state_dict())
    measure(model, CROSS_ENTROPY, data, 2, batch_size=5)
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_loader_leaves_torch_s_random_numbers_alone(shuffle):
    x, y = classes()
    data = torch.utils.data.TensorDataset(x, y)
    loader = torch.utils.data.DataLoader(data, 20, shuffle=shuffle)
    before = torch.random.get_rng_state()
    row = measure(perceptron(), CROSS_ENTROPY, loader, 2, noise_batches=loader)
    whole = measure(perceptron(), CROSS_ENTROPY, data, 2, batch_size=20, noise_batches=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_allclose(row.power_sums, whole.power_sums, rtol=1e-9)


def test_a_row_inside_of_inference_mode():
    model, data = perceptron(), classes()
    expected = measure(model, CROSS_ENTROPY, data, 2, batch_size=5)
    with torch.inference_mode():
        row = measure(model, CROSS_ENTROPY, data, 2, batch_size=5)
    np.testing.assert_array_equal(row.power_sums, expected.power_sums)


def test_parameters_that_come_or_go_are_an_error():
    model = perceptron()
    model[0].weight.requires_grad_(False)
    probe = sa.network.Probe(model, CROSS_ENTROPY, classes(), 2, batch_size=5)
    probe.observe(0.1)
    model[0].weight.requires_grad_(True)
    with pytest.raises(ValueError, match="model must have the parameters that it had at first"):
        probe.observe(0.1)


# --- bad input -----------------------------------------------------------------------------------


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return grad


class Rough(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = perceptron()

    def forward(self, x):
        return Once.apply(self.inner(x))


class Forward(nn.Module):
    """Its derivative has none."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(6, 3).double()

    def forward(self, x):
        return self.last(x) ** 2 + torch.cdist(self.last.weight, x, p=3.0).mean()


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(6, 3, dtype=torch.complex128))

    def forward(self, x):
        return (x.to(torch.complex128) @ self.weight).abs()


WEIGHTED = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.2], dtype=torch.float64))
X, Y = classes()


@pytest.mark.parametrize(("change", "message"), [
    ({"model": Rough()}, "model must be one that .* says: a function is marked"),
    ({"model": Forward()}, "model must be one that torch can differentiate twice, and it says: "),
    ({"model": Complex()}, "model must have real parameters of one type"),
    ({"loss_fn": WEIGHTED}, "loss_fn must be the mean over a batch, each sample counted alike"),
    ({"data": [(X, Y, Y)], "noise_batches": [(X, Y)] * 2}, "data must be pairs .* got 3 parts"),
    ({"data": {"x": X}}, "data must be a pair of tensors"),
    ({"data": (X[:0], Y[:0])}, "data must have at least one sample, got none"),
    ({"data": [(X.numpy(), Y.numpy())]}, "data must be pairs .* targets that are a ndarray"),
    ({"noise_batches": (X, Y)}, "noise_batches must be pairs of inputs and a tensor of targets"),
    ({"noise_batches": []}, "noise_batches must be at least 2 mini-batches, got 0"),
])  # fmt: skip
def test_bad_input_is_one_sentence(change, message):
    given = {"model": perceptron(), "loss_fn": CROSS_ENTROPY, "data": (X, Y), "num_dominant": 3}
    with pytest.raises(ValueError, match=message) as caught:
        measure(**(given | {"batch_size": 5} | change))
    assert "\n" not in str(caught.value)


def test_second_derivatives_that_torch_gets_wrong_are_refused():
    """Those of a fused weight norm leave out a term; should that change, this test may go."""
    torch.manual_seed(0)
    last = nn.utils.parametrizations.weight_norm(nn.Linear(8, 3))
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), last).double()
    with pytest.raises(ValueError, match=r"differentiates twice rightly, and .* unsymmetric by 0"):
        measure(model, CROSS_ENTROPY, (X, Y), 3, batch_size=5)


def test_states_must_be_copies():
    model, data = perceptron(), classes()
    for states, message in (
        (model.state_dict(), "states must be a list of state dicts"),
        ([], "states must be at least one state dict, got none"),
        ([model.state_dict(), model.state_dict()], "states must be copies"),
    ):
        with pytest.raises(ValueError, match=message):
            sa.network.verify(model, CROSS_ENTROPY, data, 2, batch_size=5, states=states)


def test_batches_of_all_data_have_no_noise_and_decide_nothing_but_signs():
    model, data = perceptron(), classes()
    found = sa.network.verify(
        model, CROSS_ENTROPY, data, 2, batch_size=len(data[1]), repeats=3, multiples=(0.5, 1.0)
    )
    assert np.isnan(found.states[0].odds).all()
    assert found.signs_at(0.5).undecided + found.signs_at(0.5, beyond=True).undecided == 1
