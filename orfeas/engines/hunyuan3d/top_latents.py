"""An approximation of the field, off unless asked for: each point attends only to the latents that matter nearby.

Space is cut into a fixed lattice. In each of its cells every head keeps the latents that score highest for the cell's
mean query, and the cell's points attend to those alone: two thirds of the attention, which is 44 % of a point's work,
are not done. The idea is FlashVDM's (Lai et al., "Unleashing Vecset Diffusion Model for Fast Shape Generation", 2025);
unlike there the choice depends on the place alone, so the same latents give the same field whatever is asked in
whatever order. The field jumps a little from cell to cell.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orfeas.engines.hunyuan3d.vae import GeoDecoder, GeoField, attend_to_latents

CELLS = 6  # of the lattice along an axis
PROBES = 4  # points along an axis of a cell, whose queries are averaged


class TopLatentsField(GeoField):
    """`vae.GeoField` with ``kept`` of the latents for each cell and head; all of them is the exact field."""

    def __init__(self, geo_decoder: GeoDecoder, decoded_latents: Tensor, kept: int, half_extent: float = 1.01):
        """``decoded_latents`` (1, T, width); ``kept`` from 1 to T; the lattice fills [-half_extent, half_extent]^3."""
        super().__init__(geo_decoder, decoded_latents)
        if not 1 <= kept <= decoded_latents.shape[1]:
            raise ValueError(f"the field has {decoded_latents.shape[1]} latents, of which {kept} cannot be kept")
        self.half_extent = half_extent
        self.chosen = self._choose(kept)

    def __call__(self, points: Tensor) -> Tensor:
        points = points.to(self.device)
        cells, order = self.cell_of(points).sort(stable=True)
        counts = torch.bincount(cells, minlength=CELLS**3).tolist()

        def attend(queries: Tensor) -> Tensor:
            mixed = torch.empty_like(queries)
            start = 0
            for cell, count in enumerate(counts):
                if count:
                    part = slice(start, start + count)
                    chosen = self.chosen[cell].unsqueeze(-1).expand(-1, -1, self.keys.shape[-1]).unsqueeze(0)
                    keys, values = self.keys.gather(2, chosen), self.values.gather(2, chosen)
                    mixed[:, :, part] = attend_to_latents(queries[:, :, part], keys, values)
                start += count
            return mixed

        logits = self.decoder(points[order], attend)
        return torch.empty_like(logits).scatter_(0, order, logits)

    def cell_of(self, points: Tensor) -> Tensor:
        """(n, 3) to the number (n,) of each point's cell; points outside the lattice belong to its rim."""
        place = ((points / self.half_extent + 1) / 2 * CELLS).floor().clamp(0, CELLS - 1).long()
        return (place[:, 0] * CELLS + place[:, 1]) * CELLS + place[:, 2]

    def _choose(self, kept: int) -> Tensor:
        """(cells, heads, kept): the numbers of the latents. The mean of the scores is the score of the mean query."""
        along = (torch.arange(CELLS * PROBES, device=self.device, dtype=torch.float32) + 0.5) / (CELLS * PROBES)
        along = (2 * along - 1) * self.half_extent
        probes = torch.cartesian_prod(along, along, along)
        probes = probes[self.cell_of(probes).argsort(stable=True)]
        queries = self.decoder.block.project_points(self.decoder.project(probes))
        means = queries[0].float().unflatten(1, (CELLS**3, PROBES**3)).mean(dim=2)  # (heads, cells, head width)
        scores = means @ self.keys[0].float().transpose(1, 2)
        return scores.topk(kept, dim=-1).indices.transpose(0, 1).contiguous()
