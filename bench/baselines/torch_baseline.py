"""SGD in the eigenbasis in PyTorch: eager operations in place, or one compiled step."""

import torch


class TorchSimulation:
    """Loss and alignment of every step, on as many threads as PyTorch takes by default."""

    def __init__(self, problem, step_size, dtype="float64", normals=None, compiled=False, seed=0):
        spectrum = problem.spectrum.expand()
        kind = getattr(torch, dtype)
        self.generator = torch.Generator().manual_seed(seed)
        self.lam = torch.from_numpy(spectrum.eigenvalues.copy()).to(kind)
        self.c = torch.empty_like(self.lam).normal_(generator=self.generator)
        self.c *= problem.initial
        self.gradient = torch.empty_like(self.lam)
        self.noise = torch.empty(spectrum.dim, dtype=getattr(torch, normals or dtype))
        self.k, self.std, self.step_size = spectrum.num_dominant, problem.noise.std, step_size
        self.advance = torch.compile(self._fused()) if compiled else self._eager
        self.row = torch.empty(2, dtype=kind)
        if compiled:  # now, on a copy of the state: raises where there is no C++ compiler
            self.advance(self.c.clone(), self.lam, self.noise.zero_(), self.row)

    @torch.no_grad()
    def run(self, num_steps):
        """Advance and return loss and alignment before every step."""
        rows = torch.empty(num_steps, 2, dtype=self.c.dtype)
        for t in range(num_steps):
            # Also for the compiled step: the generator that PyTorch compiles into a loop of its
            # own takes ten times as long as this one.
            self.noise.normal_(generator=self.generator)
            self.advance(self.c, self.lam, self.noise, self.row)
            rows[t] = self.row
        return rows[:, 0].numpy(), rows[:, 1].numpy()

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
            dominant_sq = gradient[:k].square().sum()
            row[0] = (gradient * c).sum() / 2
            row[1] = dominant_sq / (dominant_sq + gradient[k:].square().sum())
            c.sub_(step_size * (gradient + std * noise))

        return step
