"""Make ``digits_mlp.h5``: the Gauss-Newton spectrum of a network trained on digits.

A multilayer perceptron with more than a million parameters is trained on the handwritten
digits of scikit-learn.  The generalized Gauss-Newton matrix ``G`` (GGN) of its mean
cross-entropy over the training set is then described by *levels*: pairs of an eigenvalue
and the integer number of times it occurs, adding up to the number of parameters.

1.  The largest eigenvalues are resolved one by one.  The nonzero eigenvalues of
    ``G = F F^T`` are those of the much smaller Gram matrix ``F^T F``, which has only
    ``N (C - 1)`` rows for ``N`` training images and ``C`` classes and, for a multilayer
    perceptron, has a closed form.  Lanczos (ARPACK) in double precision gives its largest
    eigenpairs; they are carried over to parameter space, and their residuals are measured
    with a GGN operator that knows nothing of the Gram matrix (``curvlinops``).
2.  The remaining eigenvalues are those of the Gram matrix by a dense solver, grouped in
    geometric bins that keep count and trace.  With ``--bulk slq`` they come from stochastic
    Lanczos quadrature with the ``curvlinops`` operator on the orthogonal complement of the
    resolved eigenvectors instead, as they would for a network too large for a Gram matrix;
    the quadrature measure is turned into integer multiplicities by averaging its quantile
    function over unit intervals.

With the Gram matrix at hand, trace and sum of squares are checked exactly, and so is the
whole distribution, unless ``--skip-exact-check`` is given.

Needs this package with its extra ``spectra`` and, with the default options, about 10 GB of
memory.  Run::

    python data/make_digits_spectrum.py
"""

import argparse
import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np
import scipy.linalg
import scipy.sparse.linalg
import torch
from curvlinops import GGNLinearOperator
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits
from torch import nn

import suspalign_fast as sa

NUM_CLASSES = 10
NUM_PIXELS = 64
PACKAGES = ("torch", "curvlinops-for-pytorch", "scikit-learn", "numpy", "scipy", "h5py")


@dataclass
class Digits:
    """Training and test images (pixels in [0, 1], double precision) with their labels."""

    x_train: torch.Tensor
    y_train: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor


@dataclass
class Levels:
    """Distinct eigenvalues in descending order with their multiplicities."""

    eigenvalues: np.ndarray
    multiplicities: np.ndarray

    @property
    def trace(self):
        """Sum of all eigenvalues."""
        return float(self.multiplicities @ self.eigenvalues)

    @property
    def sum_of_squares(self):
        """Sum of all squared eigenvalues."""
        return float(self.multiplicities @ self.eigenvalues**2)


_START = time.perf_counter()


def say(text):
    """Print a progress message with the time since the start of the program."""
    print(f"[{time.perf_counter() - _START:7.1f} s] {text}", flush=True)


# --------------------------------------------------------------------------------------
# Data, model, training
# --------------------------------------------------------------------------------------


def load_data(num_test, seed):
    """Load the digits and split them, with equal class proportions in both parts.

    Parameters
    ----------
    num_test : int
        Number of test images; the others are for training.
    seed : int
        Seed of the split.

    Returns
    -------
    Digits
    """
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(
        images / 16.0, labels, test_size=num_test, random_state=seed, stratify=labels
    )
    x_train, x_test = (torch.as_tensor(part, dtype=torch.float64) for part in parts[:2])
    y_train, y_test = (torch.as_tensor(part, dtype=torch.int64) for part in parts[2:])
    return Digits(x_train, y_train, x_test, y_test)


def build_model(width):
    """Build a perceptron with two hidden ReLU layers of the given width (double precision)."""
    return nn.Sequential(
        nn.Linear(NUM_PIXELS, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, NUM_CLASSES),
    ).double()


def train(model, data, *, epochs, batch_size, learning_rate, weight_decay):
    """Train by stochastic gradient descent with momentum and a cosine learning rate.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place.
    data : Digits
    epochs, batch_size : int
    learning_rate, weight_decay : float
    """
    optimizer = torch.optim.SGD(
        model.parameters(), lr=learning_rate, momentum=0.9, weight_decay=weight_decay
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    loss_function = nn.CrossEntropyLoss()
    for epoch in range(1, epochs + 1):
        for batch in torch.randperm(len(data.x_train)).split(batch_size):
            optimizer.zero_grad()
            loss_function(model(data.x_train[batch]), data.y_train[batch]).backward()
            optimizer.step()
        scheduler.step()
        if epoch % 5 == 0 or epoch == epochs:
            loss, accuracy = evaluate(model, data.x_test, data.y_test)
            say(f"epoch {epoch}: test loss {loss:.4f}, test accuracy {accuracy:.4f}")


@torch.no_grad()
def evaluate(model, x, y):
    """Return mean cross-entropy and accuracy of a model on images ``x`` with labels ``y``."""
    logits = model(x)
    loss = nn.functional.cross_entropy(logits, y).item()
    return loss, (logits.argmax(dim=1) == y).double().mean().item()


# --------------------------------------------------------------------------------------
# The Gram matrix of the GGN
# --------------------------------------------------------------------------------------


def output_factors(logits):
    """Factor the Hessian of the cross-entropy in the outputs, image by image.

    With the class probabilities ``p`` of an image, ``diag(p) - p p^T = B B^T`` for
    ``B = diag(sqrt(p)) - p sqrt(p)^T``, and ``B`` maps ``sqrt(p)`` to zero.  Multiplying
    ``B`` by an orthonormal basis of the complement of ``sqrt(p)`` removes that column.

    Parameters
    ----------
    logits : torch.Tensor
        Shape ``(N, C)``.

    Returns
    -------
    torch.Tensor
        The transposed factors, shape ``(N, C - 1, C)``.
    """
    probabilities = logits.softmax(dim=1)
    roots = probabilities.sqrt()
    factors = torch.diag_embed(roots) - probabilities[:, :, None] * roots[:, None, :]
    # The last C - 1 columns of a Householder reflection that maps the first unit vector
    # to -roots: an orthonormal basis of the complement of roots.
    normal = roots.clone()
    normal[:, 0] += 1.0
    basis = torch.eye(logits.shape[1], dtype=logits.dtype) - (
        normal[:, :, None] * normal[:, None, :] / (1.0 + roots[:, 0])[:, None, None]
    )
    return (factors @ basis[:, :, 1:]).mT


@torch.no_grad()
def layer_factors(model, x):
    """Factor the GGN of the mean cross-entropy as ``G = F F^T``, layer by layer.

    Column ``(n, k)`` of ``F`` is the gradient of ``B_n[:, k]^T f(x_n) / sqrt(N)``.  Its part
    for a linear layer is the outer product of a signal sent back to that layer's output and
    the layer's input, so that signals and inputs describe ``F`` completely.

    Parameters
    ----------
    model : torch.nn.Sequential
        Linear layers with ReLU between them.
    x : torch.Tensor
        Training images, shape ``(N, NUM_PIXELS)``.

    Returns
    -------
    list of (signals, inputs)
        For each linear layer, first to last: shapes ``(N, C - 1, out)`` and
        ``(N, in + 1)``; the last input is the constant 1 that belongs to the bias.
    """
    inputs, hidden = [], x
    for layer in model:
        if isinstance(layer, nn.Linear):
            inputs.append(hidden)
        hidden = layer(hidden)
    signals = output_factors(hidden) / len(x) ** 0.5
    factors = []
    linear_layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    for layer, layer_input in zip(reversed(linear_layers), reversed(inputs), strict=True):
        ones = torch.ones(len(x), 1, dtype=x.dtype)
        factors.append((signals, torch.cat([layer_input, ones], dim=1)))
        # relu'(z) = [relu(z) > 0]; for the first layer the product is not used again
        signals = (signals @ layer.weight) * (layer_input > 0)[:, None, :]
    return factors[::-1]


@torch.no_grad()
def gram_matrix(factors, images_per_block=100):
    """Compute the Gram matrix ``F^T F`` from the factors of all layers.

    Returns
    -------
    numpy.ndarray
        Shape ``(N (C - 1), N (C - 1))``, symmetric.
    """
    num_images, per_image = factors[0][0].shape[:2]
    size = num_images * per_image
    gram = torch.zeros(size, size, dtype=torch.float64)
    for signals, inputs in factors:
        flat_signals = signals.reshape(size, -1)
        for first in range(0, num_images, images_per_block):
            images = slice(first, min(first + images_per_block, num_images))
            rows = slice(images.start * per_image, images.stop * per_image)
            products = flat_signals[rows] @ flat_signals.T
            by_image = products.view(-1, per_image, num_images, per_image)
            by_image *= (inputs[images] @ inputs.T)[:, None, :, None]
            gram[rows] += products
    gram = gram.numpy()
    for row in range(size):  # exactly symmetric, without a second matrix
        gram[row, row:] = gram[row:, row]
    return gram


def top_eigenpairs(gram, count, seed):
    """Find the largest eigenpairs of the Gram matrix by Lanczos (ARPACK).

    Returns
    -------
    eigenvalues : numpy.ndarray
        Shape ``(count,)``, descending.
    vectors : numpy.ndarray
        Shape ``(N (C - 1), count)``.
    """
    start = np.random.default_rng(seed).standard_normal(len(gram))
    eigenvalues, vectors = scipy.sparse.linalg.eigsh(
        gram, k=count, ncv=min(2 * count, len(gram)), which="LA", v0=start
    )
    return eigenvalues[::-1], vectors[:, ::-1]


@torch.no_grad()
def lift_eigenvectors(factors, eigenvalues, vectors, vectors_per_block=20):
    """Carry eigenvectors ``w`` of ``F^T F`` over to those of ``F F^T``: ``F w / sqrt(lambda)``.

    Returns
    -------
    torch.Tensor
        Orthonormal rows, shape ``(count, num_parameters)``, with the parameters in the order
        of ``model.parameters()``.
    """
    num_images, per_image = factors[0][0].shape[:2]
    size = sum(signals.shape[2] * inputs.shape[1] for signals, inputs in factors)
    scaled = torch.as_tensor((vectors / np.sqrt(eigenvalues)).T.copy())
    rows = torch.empty(len(scaled), size, dtype=torch.float64)
    for first in range(0, len(scaled), vectors_per_block):
        block = slice(first, first + vectors_per_block)
        weights = scaled[block].view(-1, num_images, per_image).transpose(0, 1)
        position = 0
        for signals, inputs in factors:
            # (vectors, out, N) @ (N, in + 1): a weight matrix with its bias as last column
            gradients = (weights @ signals).permute(1, 2, 0) @ inputs
            for part in (gradients[:, :, :-1], gradients[:, :, -1]):
                flat = part.reshape(len(part), -1)
                rows[block, position : position + flat.shape[1]] = flat
                position += flat.shape[1]
    return rows


# --------------------------------------------------------------------------------------
# The GGN operator in parameter space
# --------------------------------------------------------------------------------------


def make_operator(model, data):
    """Make the ``curvlinops`` operator of the GGN of the mean training loss."""
    return GGNLinearOperator(
        model,
        nn.CrossEntropyLoss(),
        list(model.parameters()),
        [(data.x_train, data.y_train)],
        check_deterministic=False,
    )


def relative_residuals(operator, eigenvalues, rows, block=10):
    """Compute ``|G u - lambda u| / lambda`` for unit vectors ``u``, the rows of ``rows``."""
    values = torch.as_tensor(eigenvalues.copy())
    residuals = []
    for first in range(0, len(rows), block):
        part = slice(first, first + block)
        images = (operator @ rows[part].T).T
        residuals.append((images - values[part, None] * rows[part]).norm(dim=1) / values[part])
    return torch.cat(residuals).numpy()


def stochastic_lanczos(operator, deflated, num_probes, num_steps, seed):
    """Run Lanczos from random vectors on the complement of known eigenvectors.

    Each new vector is orthogonalized against the deflated eigenvectors and, twice, against
    all earlier Lanczos vectors of its probe.  The probes advance together, so that each step is
    one product of the operator with a block.

    Parameters
    ----------
    operator : curvlinops.GGNLinearOperator
        Symmetric, shape ``(P, P)``.
    deflated : torch.Tensor
        Orthonormal rows that span an invariant subspace, shape ``(count, P)``.
    num_probes, num_steps, seed : int

    Returns
    -------
    nodes, weights : numpy.ndarray
        Shape ``(num_probes, num_steps)``.  The weights of each probe add up to
        ``P - count``: a weight is an estimated number of eigenvalues.
    """
    size = operator.shape[0]
    generator = torch.Generator().manual_seed(seed)
    current = torch.randn(num_probes, size, dtype=torch.float64, generator=generator)
    current -= (current @ deflated.T) @ deflated
    current /= current.norm(dim=1, keepdim=True)
    basis = torch.empty(num_probes, num_steps, size, dtype=torch.float64)
    diagonals = np.empty((num_probes, num_steps))
    off_diagonals = np.empty((num_probes, num_steps))
    for step in range(num_steps):
        basis[:, step] = current
        images = (operator @ current.T).T.contiguous()
        diagonals[:, step] = (images * current).sum(dim=1)
        images -= (images @ deflated.T) @ deflated
        for probe in range(num_probes):
            known = basis[probe, : step + 1]
            for _ in range(2):
                images[probe] -= (known @ images[probe]) @ known
        norms = images.norm(dim=1, keepdim=True)
        off_diagonals[:, step] = norms[:, 0]
        current = images / norms
        if (step + 1) % 20 == 0:
            say(f"Lanczos step {step + 1} of {num_steps}")
    nodes, weights = np.empty_like(diagonals), np.empty_like(diagonals)
    for probe in range(num_probes):
        nodes[probe], vectors = scipy.linalg.eigh_tridiagonal(
            diagonals[probe], off_diagonals[probe, :-1]
        )
        weights[probe] = vectors[0] ** 2 * (size - len(deflated))
    return nodes, weights


# --------------------------------------------------------------------------------------
# From eigenvalue estimates to levels
# --------------------------------------------------------------------------------------


def split_null_nodes(nodes, weights):
    """Separate the quadrature nodes that stand for the null space from the others.

    The null space has more than half of all dimensions, so that each probe has exactly one
    node with more than half of its weight: the null space together with all eigenvalues
    that the quadrature cannot tell from zero.

    Parameters
    ----------
    nodes, weights : numpy.ndarray
        As :func:`stochastic_lanczos` returns them.

    Returns
    -------
    nodes, weights : numpy.ndarray
        The other nodes of all probes in one array; the weights are divided by the number of
        probes.
    null_sum : float
        Mean over the probes of node times weight at the null nodes: the estimated sum of the
        eigenvalues that were not told from zero.
    """
    null = weights > 0.5 * weights.sum(axis=1, keepdims=True)
    if not np.array_equal(null.sum(axis=1), np.ones(len(nodes))):
        raise RuntimeError("expected exactly one node per probe for the null space")
    null_sum = max(float(nodes[null] @ weights[null]) / len(nodes), 0.0)
    return nodes[~null], weights[~null] / len(nodes), null_sum


def quantile_means(nodes, weights):
    """Turn a measure into single eigenvalues, keeping its sum.

    Eigenvalue number ``i`` in descending order is the mean of the measure's quantile function
    over the interval from ``i - 1`` to ``i``.

    Returns
    -------
    eigenvalues : numpy.ndarray
        Descending; their number is the total weight, rounded down.
    leftover : float
        What is missing to the sum of node times weight (a fraction of the smallest nodes).
    """
    order = np.argsort(nodes)[::-1]
    counts = np.concatenate([[0.0], np.cumsum(weights[order])])
    sums = np.concatenate([[0.0], np.cumsum((weights * nodes)[order])])
    whole = np.arange(int(counts[-1]) + 1)
    sums_at_whole = np.interp(whole, counts, sums)
    return np.diff(sums_at_whole), float(sums[-1] - sums_at_whole[-1])


def slq_bulk(nodes, weights, max_count):
    """Turn quadrature nodes into at most ``max_count`` positive eigenvalues.

    The quadrature resolves eigenvalues down to its smallest nonzero node.  The rank bound
    tells how many smaller ones there can be, and the null nodes tell their sum: they become
    equal eigenvalues that keep the trace.

    Returns
    -------
    eigenvalues : numpy.ndarray
        Descending, ``max_count`` of them (fewer if no room is left for the unresolved ones).
    num_unresolved : int
        How many of the last ones are that common value.
    """
    nodes, weights, null_sum = split_null_nodes(nodes, weights)
    eigenvalues, leftover = quantile_means(nodes, weights)
    if len(eigenvalues) >= max_count:
        return eigenvalues[:max_count], 0
    num_unresolved = max_count - len(eigenvalues)
    common = (null_sum + leftover) / num_unresolved
    if common >= eigenvalues[-1]:
        raise RuntimeError("the unresolved eigenvalues are not the smallest: use more steps")
    return np.concatenate([eigenvalues, np.full(num_unresolved, common)]), num_unresolved


def group_in_bins(eigenvalues, num_bins):
    """Replace positive eigenvalues in the same geometric bin by their mean.

    Parameters
    ----------
    eigenvalues : numpy.ndarray
        Descending and positive.
    num_bins : int
        Bins of equal width in the logarithm; empty ones give no level.

    Returns
    -------
    Levels
    """
    depths = np.log(eigenvalues[0] / eigenvalues)
    bins = np.minimum((depths / depths[-1] * num_bins).astype(int), num_bins - 1)
    _, counts = np.unique(bins, return_counts=True)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return Levels(np.add.reduceat(eigenvalues, starts) / counts, counts.astype(np.int64))


def assemble_levels(resolved, bulk, num_parameters, num_bins):
    """Put single eigenvalues, binned bulk and null space together.

    Parameters
    ----------
    resolved : numpy.ndarray
        The largest eigenvalues, descending; each is a level of its own.
    bulk : numpy.ndarray
        The other positive eigenvalues, descending.
    num_parameters, num_bins : int

    Returns
    -------
    Levels
        Strictly descending; the multiplicities add up to ``num_parameters``.
    """
    binned = group_in_bins(bulk, num_bins)
    num_null = num_parameters - len(resolved) - len(bulk)
    levels = Levels(
        np.concatenate([resolved, binned.eigenvalues, [0.0]]),
        np.concatenate([np.ones(len(resolved), np.int64), binned.multiplicities, [num_null]]),
    )
    if np.any(np.diff(levels.eigenvalues) >= 0) or np.any(levels.multiplicities < 1):
        raise RuntimeError("levels are not strictly descending with positive multiplicities")
    if levels.multiplicities.sum() != num_parameters:
        raise RuntimeError("multiplicities do not add up to the number of parameters")
    return levels


def find_gap(eigenvalues, smallest=2, largest=50):
    """Find the ``k`` with the largest ratio of eigenvalue ``k`` to eigenvalue ``k + 1``.

    Returns
    -------
    k : int
        From ``smallest`` to ``largest``.
    ratios : numpy.ndarray
        The ratios for ``k = 1, ..., largest``.
    """
    ratios = eigenvalues[:largest] / eigenvalues[1 : largest + 1]
    return smallest + int(np.argmax(ratios[smallest - 1 :])), ratios


# --------------------------------------------------------------------------------------
# Checks
# --------------------------------------------------------------------------------------


def operator_deviation(operator, gram, factors, seed):
    """Compare the ``curvlinops`` operator with the Gram matrix on a random vector.

    Returns
    -------
    float
        ``|G F w - F (F^T F) w| / |F (F^T F) w|`` for a random ``w``.
    """
    vector = np.random.default_rng(seed).standard_normal((len(gram), 1))
    one = np.ones(1)
    expected = lift_eigenvectors(factors, one, gram @ vector)[0]
    actual = operator @ lift_eigenvectors(factors, one, vector)[0]
    return ((actual - expected).norm() / expected.norm()).item()


def all_gram_eigenvalues(gram):
    """Compute all eigenvalues of the Gram matrix, which is overwritten.

    Returns
    -------
    numpy.ndarray
        Descending; those that rounding errors hide are set to zero.
    """
    eigenvalues = scipy.linalg.eigh(
        gram.T, eigvals_only=True, overwrite_a=True, check_finite=False
    )[::-1].copy()
    eigenvalues[eigenvalues < 1e-14 * eigenvalues[0]] = 0.0
    return eigenvalues


def compare_with_exact(levels, exact, num_resolved):
    """Compare levels with all eigenvalues of the Gram matrix.

    Returns
    -------
    dict
        ``bulk_trace_relative_error``, ``bulk_distance`` (sum of the absolute differences of
        the sorted bulk eigenvalues, relative to their exact sum) and ``counts``: for some
        thresholds, the number of larger eigenvalues according to the levels and exactly.
    """
    # without the last level, the null space
    estimate = np.repeat(levels.eigenvalues[:-1], levels.multiplicities[:-1])
    bulk, exact_bulk = estimate[num_resolved:], exact[num_resolved:]
    size = max(len(bulk), len(exact_bulk))
    bulk = np.pad(bulk, (0, size - len(bulk)))
    exact_bulk = np.pad(exact_bulk, (0, size - len(exact_bulk)))
    thresholds = 10.0 ** np.arange(-2, -9, -1)
    return {
        "bulk_trace_relative_error": float(bulk.sum() / exact_bulk.sum() - 1.0),
        "bulk_distance": float(np.abs(bulk - exact_bulk).sum() / exact_bulk.sum()),
        "counts": [
            (float(t), int((estimate > t).sum()), int((exact > t).sum())) for t in thresholds
        ],
    }


# --------------------------------------------------------------------------------------
# Output
# --------------------------------------------------------------------------------------


def write_spectrum(path, levels, num_dominant, description, attributes, evidence):
    """Write the HDF5 file.

    Parameters
    ----------
    path : pathlib.Path
    levels : Levels
    num_dominant : int
        Number of eigenvalues above the gap.
    description : str
    attributes : dict of str to (str, int, float)
        Further attributes of the root group.
    evidence : dict of str to numpy.ndarray
        Written to the group ``/evidence``.
    """
    spectrum = sa.Spectrum(levels.eigenvalues, num_dominant, levels.multiplicities)
    spectrum.save(path, description=description, attributes=attributes, overwrite=True)
    with h5py.File(path, "r+") as file:
        group = file.create_group("evidence")
        for name, array in evidence.items():
            group.create_dataset(name, data=array, compression="gzip", shuffle=True)


def describe(attributes):
    """Compose the human-readable description of the file from its attributes."""
    text = (
        "Spectrum of the generalized Gauss-Newton matrix (GGN) of the mean softmax "
        "cross-entropy over the training set, without the weight decay term. Model: perceptron "
        "{widths} with ReLU, {num_parameters} parameters, double precision. Data: scikit-learn "
        "digits, pixels scaled to [0, 1], {num_train} training and {num_test} test images. "
        "Training: {epochs} epochs of SGD, batch size {batch_size}, momentum 0.9, cosine "
        "learning rate from {learning_rate}, weight decay {weight_decay}; training loss "
        "{train_loss:.4f} and accuracy {train_accuracy:.4f}, test loss {test_loss:.4f} and "
        "accuracy {test_accuracy:.4f}. The {num_resolved} largest eigenvalues were resolved one "
        "by one (Lanczos on the Gram matrix); their relative residuals |G u - lambda u| / "
        "lambda with the curvlinops GGN operator are at most {max_residual:.1e}. "
    )
    if attributes["bulk_method"] == "slq":
        text += (
            "The others are levels from stochastic Lanczos quadrature ({slq_probes} probes of "
            "{slq_steps} steps, full reorthogonalization) on the orthogonal complement, in "
            "geometric bins; the {num_unresolved} eigenvalues that it cannot tell from zero are "
            "the last positive level, whose sum is estimated and whose multiplicity fills up "
            "the rank bound {rank_bound}. "
        )
    else:
        text += (
            "The others are all eigenvalues of the Gram matrix by a dense solver, in geometric "
            "bins. "
        )
    text += (
        "Trace of the levels {trace:.8g}, exact {exact_trace:.8g}; sum of squares "
        "{sum_of_squares:.8g}, exact {exact_sum_of_squares:.8g}. "
    )
    if "bulk_distance" in attributes:
        text += (
            "Compared with all eigenvalues of the Gram matrix, the trace of the bulk is off by "
            "{bulk_trace_relative_error:.2%} and the sum of absolute differences of its sorted "
            "eigenvalues is {bulk_distance:.2%} of its trace. "
        )
    return text.format(**attributes) + "Made with " + attributes["versions"] + "."


def report_levels(levels, num_dominant, num_resolved, ratios):
    """Print the levels' main numbers."""
    eigenvalues, multiplicities = levels.eigenvalues, levels.multiplicities
    print("largest eigenvalues:", np.array2string(eigenvalues[:20], precision=6))
    print("ratios lambda_k / lambda_k+1, k = 1, 2, ...:", np.round(ratios, 3).tolist())
    print(f"num_dominant = {num_dominant}, ratio {ratios[num_dominant - 1]:.4f}")
    print(f"{len(levels.eigenvalues)} levels, {num_resolved} of them resolved one by one")
    for name, part in (
        ("dominant", slice(0, num_dominant)),
        ("rest", slice(num_dominant, None)),
        ("rest, resolved", slice(num_dominant, num_resolved)),
        ("rest, in bins", slice(num_resolved, None)),
    ):
        sub = Levels(eigenvalues[part], multiplicities[part])
        print(f"{name}: trace {sub.trace:.8g}, sum of squares {sub.sum_of_squares:.8g}")
    print("smallest levels:", eigenvalues[-6:], multiplicities[-6:])


def parse_arguments():
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description="Make the Gauss-Newton spectrum of a network trained on digits.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    default_output = Path(__file__).resolve().parent / "digits_mlp.h5"
    parser.add_argument("--output", type=Path, default=default_output, help="HDF5 file")
    parser.add_argument("--seed", type=int, default=0, help="split, training and probes")
    parser.add_argument("--num-test", type=int, default=500, help="test images")
    parser.add_argument("--width", type=int, default=1000, help="units per hidden layer")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--num-resolved", type=int, default=200, help="single eigenvalues")
    parser.add_argument("--bulk", choices=["exact", "slq"], default="exact", help="see README")
    parser.add_argument("--slq-probes", type=int, default=8)
    parser.add_argument("--slq-steps", type=int, default=80)
    parser.add_argument("--num-bins", type=int, default=200, help="bins of the bulk")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch and BLAS")
    parser.add_argument(
        "--skip-exact-check",
        action="store_true",
        help="do not compute all eigenvalues of the Gram matrix",
    )
    return parser.parse_args()


def prepare(options):
    """Load the data and train the model.

    Returns
    -------
    model : torch.nn.Sequential
    data : Digits
    attributes : dict
        What the file says about model, data and training.
    """
    torch.manual_seed(options.seed)
    data = load_data(options.num_test, options.seed)
    model = build_model(options.width)
    train(
        model,
        data,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
    )
    train_loss, train_accuracy = evaluate(model, data.x_train, data.y_train)
    test_loss, test_accuracy = evaluate(model, data.x_test, data.y_test)
    say(f"training loss {train_loss:.4f}, training accuracy {train_accuracy:.4f}")
    versions = [f"{name} {version(name)}" for name in PACKAGES]
    attributes = {
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "widths": f"{NUM_PIXELS}-{options.width}-{options.width}-{NUM_CLASSES}",
        "num_train": len(data.x_train),
        "num_test": len(data.x_test),
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "weight_decay": options.weight_decay,
        "seed": options.seed,
        "train_loss": train_loss,
        "train_accuracy": train_accuracy,
        "test_loss": test_loss,
        "test_accuracy": test_accuracy,
        "versions": ", ".join([*versions, f"Python {platform.python_version()}"]),
    }
    return model, data, attributes


def resolve(options, operator, factors, gram):
    """Find the largest eigenpairs and check them with the operator.

    Returns
    -------
    eigenvalues : numpy.ndarray
    rows : torch.Tensor
        The eigenvectors in parameter space.
    residuals : numpy.ndarray
        Relative residuals.
    attributes : dict
    """
    eigenvalues, vectors = top_eigenpairs(gram, options.num_resolved, options.seed)
    rows = lift_eigenvectors(factors, eigenvalues, vectors)
    say(f"resolved {len(rows)} eigenvalues from {eigenvalues[0]:.6g} to {eigenvalues[-1]:.6g}")
    deviation = operator_deviation(operator, gram, factors, options.seed)
    residuals = relative_residuals(operator, eigenvalues, rows)
    overlap = (rows @ rows.T - torch.eye(len(rows), dtype=rows.dtype)).abs().max().item()
    say(
        f"operator against Gram matrix {deviation:.1e}, relative residuals up to "
        f"{residuals.max():.1e}, eigenvectors orthonormal to {overlap:.1e}"
    )
    attributes = {
        "num_resolved": len(rows),
        "operator_deviation": deviation,
        "max_residual": float(residuals.max()),
        "max_overlap": overlap,
    }
    return eigenvalues, rows, residuals, attributes


def estimate_bulk(options, operator, rows, max_count):
    """Estimate the remaining positive eigenvalues by stochastic Lanczos quadrature.

    Returns
    -------
    bulk : numpy.ndarray
        Single eigenvalues, descending.
    evidence, attributes : dict
    """
    nodes, weights = stochastic_lanczos(
        operator, rows, options.slq_probes, options.slq_steps, options.seed + 1
    )
    bulk, num_unresolved = slq_bulk(nodes, weights, max_count)
    probe_traces = (nodes * weights).sum(axis=1)
    say(f"bulk: estimates of the trace by the probes {np.round(probe_traces, 4).tolist()}")
    attributes = {
        "slq_probes": options.slq_probes,
        "slq_steps": options.slq_steps,
        "slq_bulk_trace": float(probe_traces.mean()),
        "slq_bulk_trace_standard_error": float(probe_traces.std(ddof=1) / len(probe_traces) ** 0.5),
        "num_unresolved": num_unresolved,
    }
    return bulk, {"slq_nodes": nodes, "slq_weights": weights}, attributes


def make_file(options):
    """Train, find the spectrum, check it and write the file."""
    model, data, attributes = prepare(options)
    operator = make_operator(model, data)
    factors = layer_factors(model, data.x_train)
    gram = gram_matrix(factors)
    max_count = len(gram) - options.num_resolved
    attributes |= {
        "bulk_method": options.bulk,
        "rank_bound": len(gram),
        "exact_trace": float(np.trace(gram)),
        "exact_sum_of_squares": float(np.vdot(gram, gram)),
    }
    say(f"Gram matrix of {len(gram)} rows, trace {attributes['exact_trace']:.8g}")
    resolved, rows, residuals, more = resolve(options, operator, factors, gram)
    attributes |= more
    evidence = {"resolved_residuals": residuals}
    if options.bulk == "slq":
        bulk, arrays, more = estimate_bulk(options, operator, rows, max_count)
        attributes |= more
        evidence |= arrays
    del rows
    if options.bulk == "exact" or not options.skip_exact_check:
        exact = all_gram_eigenvalues(gram)
        evidence["exact_eigenvalues"] = exact
        deviation = np.abs(exact[: len(resolved)] / resolved - 1.0).max()
        say(f"dense solver done; resolved eigenvalues agree to {deviation:.1e}")
    if options.bulk == "exact":
        bulk = exact[len(resolved) :]
        bulk = bulk[bulk > 0.0]
    finish(options, resolved, bulk, attributes, evidence)


def finish(options, resolved, bulk, attributes, evidence):
    """Assemble, check, print and write the levels."""
    levels = assemble_levels(resolved, bulk, attributes["num_parameters"], options.num_bins)
    num_dominant, ratios = find_gap(resolved)
    attributes |= {"trace": levels.trace, "sum_of_squares": levels.sum_of_squares}
    report_levels(levels, num_dominant, len(resolved), ratios)
    for name in ("trace", "sum_of_squares"):
        error = attributes[name] / attributes[f"exact_{name}"] - 1.0
        print(f"{name}: relative error {error:.2e}")
    if "exact_eigenvalues" in evidence:
        comparison = compare_with_exact(levels, evidence["exact_eigenvalues"], len(resolved))
        for threshold, estimated, exact in comparison.pop("counts"):
            print(f"eigenvalues above {threshold:.0e}: {estimated} by levels, {exact} exactly")
        print(comparison)
        attributes |= comparison
    description = describe(attributes)
    print(description)
    write_spectrum(options.output, levels, num_dominant, description, attributes, evidence)
    say(f"wrote {options.output.name}, {options.output.stat().st_size / 1000:.0f} kB")


def main():
    """Run the program."""
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    with threadpool_limits(options.threads):
        make_file(options)


if __name__ == "__main__":
    main()
