"""Multi-head Cross Channel Attention (MHCCA), Eq. 4 of the MDAN paper.

Each channel of the coarse map F attends to the channels of the finer backbone map C. As printed:

    A_h = softmax over C's channels of  Q(U)_h C_h^T / sqrt(d),    U = upsample(F)
    C'  = O( A_h C_h, the heads put back side by side )

where head h holds the h-th group of d = H*W/heads positions in row-major order. Most of this work
is spent on U, an interpolation of F. Three identities, none an approximation, avoid that:

* A 1x1 convolution acts on channels and bilinear upsampling on positions, so they commute:
  Q(U) = upsample(Q(F)), on a quarter of the positions. Or Q goes past the product,
  Q(U)_h C_h^T = W_q (U_h C_h^T), which has only heads * C^L columns. `MHCCA` takes the cheaper.
* Likewise O(A_h C_h) = (W_o A_h) C_h, again the cheaper of the two.
* Bilinear upsampling is separable: along the rows' direction it can be moved to the other side
  of the product, U_h C_h^T = (R F)_h (C W)_h^T with interpolation matrices R and W, which halves
  the positions summed over. This needs heads that are bands of whole rows, as the default ones
  are, since the sides of the network's input are multiples of 32. For other heads U is formed.

With value="all", A_h is applied to all of C and the heads are averaged: (mean of A_h) C.
With key and value convolutions, K(C) and V(C) take the place of C in the scores and after them.

A convolution that was wrapped or replaced is always called with a map; see `is_plain`.

Shapes in this file: N images, D channels of F (C^H in the paper's Fig. 4), K channels of C
(C^L there), F is h x w, C is H x W, g heads, d = H*W/g.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdan_zoo.errors import InputError
from mdan_zoo.models.layers import is_plain
from mdan_zoo.models.options import Value


def interpolation_matrix(coarse: int, fine: int, like: Tensor) -> Tensor:
    """Return bilinear interpolation along one axis as a matrix (fine, coarse).

    It is that of `F.interpolate(..., align_corners=False)`, with the dtype and device of `like`.
    """
    basis = torch.eye(coarse, dtype=like.dtype, device=like.device)
    return F.interpolate(basis[None], size=fine, mode="linear", align_corners=False)[0].T


def upsample(coarse: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate a map (N, D, h, w) bilinearly to `size` = (H, W)."""
    rows = interpolation_matrix(coarse.shape[2], size[0], coarse)
    columns = interpolation_matrix(coarse.shape[3], size[1], coarse)
    return rows @ (coarse @ columns.T)


def upsample_adjoint(fine: Tensor, size: Sequence[int]) -> Tensor:
    """Apply the transpose of `upsample` to a map (N, H, W); return (N, h, w) for `size` = (h, w).

    sum(upsample(F) * fine) == sum(F * upsample_adjoint(fine)) for any F.
    """
    rows = interpolation_matrix(size[0], fine.shape[-2], fine)
    columns = interpolation_matrix(size[1], fine.shape[-1], fine)
    return rows.T @ fine @ columns


def split_heads(feature_map: Tensor, heads: int) -> Tensor:
    """Cut a map (N, C, H, W) into `heads` bands of positions: (N*heads, C, H*W/heads)."""
    n, channels, height, width = feature_map.shape
    if height * width % heads:
        raise InputError(
            f"{heads} heads do not divide the {height * width} positions of a map of {height} x "
            f"{width}; use images of the size that the model is configured for"
        )
    bands = feature_map.reshape(n, channels, heads, height * width // heads)
    return bands.transpose(1, 2).flatten(0, 1)


def join_heads(bands: Tensor, like: Tensor) -> Tensor:
    """Undo `split_heads`: return (N, C, H, W), with N, H and W those of `like`."""
    n, _, height, width = like.shape
    by_image = bands.reshape(n, -1, bands.shape[1], bands.shape[2])
    return by_image.transpose(1, 2).reshape(n, -1, height, width)


class MHCCA(nn.Module):
    """Multi-head Cross Channel Attention (Eq. 4) with D = `dim` and g = `heads`.

    Attributes:
        bands: Number of bands of C that the attention is applied to: `heads`, or 1 with
            value="all".
        key, value: Identity, or 1x1 convolutions of C if its number of `channels` is given.
    """

    def __init__(
        self, dim: int, heads: int, value: Value = "band", channels: int | None = None
    ) -> None:
        super().__init__()
        self.heads = heads
        self.bands = heads if value == "band" else 1
        self.query = nn.Conv2d(dim, dim, 1, bias=False)
        self.output = nn.Conv2d(dim, dim, 1, bias=False)
        self.key, self.value = (
            nn.Conv2d(channels, channels, 1, bias=False) if channels else nn.Identity()
            for _ in range(2)
        )

    @property
    def output_weight(self) -> Tensor:
        """W_o, the weight of O as a matrix (D, D)."""
        return self.output.weight[:, :, 0, 0]

    def attention(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Return A_h (N*g, D, K) for F (N, D, h, w), not upsampled, and C (N, K, H, W).

        With value="all" it is the mean over the heads, (N, D, K).
        """
        keys, channels = self.key(fine), fine.shape[1]
        cheaper = coarse.shape[2] * coarse.shape[3] <= self.heads * channels
        if cheaper or not is_plain(self.query, nn.Conv2d):
            scores = self._correlate(self.query(coarse), keys)
        else:
            scores = self.query.weight[:, :, 0, 0] @ self._correlate(coarse, keys)
        attention = scores.softmax(dim=-1)
        if self.bands == self.heads:
            return attention
        return attention.reshape(-1, self.heads, *attention.shape[1:]).mean(dim=1)

    def _correlate(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Return U_h C_h^T / sqrt(d) (N*g, D, K) for U = upsample(coarse).

        U is not formed unless a head ends within a row.
        """
        height, width = fine.shape[2:]
        # Divided before summing over positions, so that the sum stays within float16's range.
        scale = math.sqrt(height * width // self.heads)
        if height % self.heads:
            left = split_heads(upsample(coarse, (height, width)), self.heads)
            right = split_heads(fine / scale, self.heads)
            return left @ right.transpose(-2, -1)
        rows = interpolation_matrix(coarse.shape[2], height, coarse)
        columns = interpolation_matrix(coarse.shape[3], width, fine) / scale
        left = split_heads(rows @ coarse, self.heads)
        right = split_heads(fine @ columns, self.heads)
        return left @ right.transpose(-2, -1)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Return C' (N, D, H, W), the fine map attended by the coarse one."""
        attention = self.attention(coarse, fine)
        _, channels, height, width = fine.shape
        bands = split_heads(self.value(fine), self.bands)
        cheaper = height * width <= self.bands * channels
        if cheaper or not is_plain(self.output, nn.Conv2d):
            attended: Tensor = self.output(join_heads(attention @ bands, fine))
            return attended
        return join_heads((self.output_weight @ attention) @ bands, fine)
