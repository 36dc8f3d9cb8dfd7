"""SGD in the eigenbasis in PyTorch: eager operations in place, or one compiled step."""

import torch


class TorchSimulation:
    """Loss and alignment of every step, on as many threads as PyTorch takes by default.

    On a GPU a CUDA graph of all steps of a call saves their launches, and compiled code may draw
    its normals itself, so that they are never written to memory.
    """

    def __init__(
        self, problem, step_size, dtype="float64", normals=None, compiled=False, graph=False,
        draws=False, device="cpu", seed=0,
    ):  # fmt: skip
        spectrum, kind = problem.spectrum.expand(), getattr(torch, dtype)
        drawn = getattr(torch, normals or dtype)
        # The default generator: graphs and compiled code draw from no other.
        torch.manual_seed(seed)
        self.lam = torch.from_numpy(spectrum.eigenvalues.copy()).to(device, kind)
        self.c = torch.empty_like(self.lam).normal_()
        self.c *= problem.initial
        self.gradient = torch.empty_like(self.lam)
        self.noise = None if draws else torch.empty_like(self.lam, dtype=drawn)
        self.k, self.std, self.step_size = spectrum.num_dominant, problem.noise.std, step_size
        self.advance = torch.compile(self._fused()) if compiled else self._eager
        self.row = torch.empty(2, dtype=kind, device=device)
        self.graphs = {} if graph else None
        if compiled or graph:  # now: raises where there is no compiler
            before = self.c.clone()
            self._steps(self._rows(2))
            self.c.copy_(before)

    def run(self, num_steps):
        """Advance and return loss and alignment before every step."""
        if self.graphs is None:
            rows = self._steps(self._rows(num_steps))
        else:
            rows = self._replayed(num_steps)
        return rows.cpu().numpy().T  # waits for the device

    def _rows(self, num_steps):
        return torch.empty(num_steps, 2, dtype=self.c.dtype, device=self.c.device)

    @torch.no_grad()
    def _steps(self, rows):
        for row in rows:
            # Also for the compiled step on a CPU: the generator that PyTorch compiles into a loop
            # of its own takes ten times as long as this one.
            if self.noise is not None:
                self.noise.normal_()
            self.advance(self.c, self.lam, self.noise, self.row)
            row.copy_(self.row)
        return rows

    def _replayed(self, num_steps):
        if num_steps not in self.graphs:
            graph, rows = torch.cuda.CUDAGraph(), self._rows(num_steps)
            with torch.cuda.graph(graph):
                self._steps(rows)
            self.graphs[num_steps] = graph, rows
        graph, rows = self.graphs[num_steps]
        graph.replay()
        return rows

    def _eager(self, c, lam, noise, row):
        gradient = torch.mul(lam, c, out=self.gradient)
        dominant, bulk = gradient[: self.k], gradient[self.k :]
        dominant_sq = torch.dot(dominant, dominant)
        torch.div(torch.dot(gradient, c), 2, out=row[0])
        torch.div(dominant_sq, dominant_sq + torch.dot(bulk, bulk), out=row[1])
        c.sub_(gradient, alpha=self.step_size).sub_(noise, alpha=self.step_size * self.std)

    def _fused(self):
        k, std, step_size = self.k, self.std, self.step_size

        def step(c, lam, noise, row):
            gradient = lam * c
            squares = gradient.square()
            row[0] = (gradient * c).sum() / 2
            row[1] = squares[:k].sum() / squares.sum()
            if noise is None:
                noise = torch.randn_like(c)
            c.sub_(step_size * (gradient + std * noise))

        return step
