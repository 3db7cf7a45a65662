"""The cases of kernels.py of attention over a context tree."""

from functools import partial
from typing import NamedTuple

import torch
from kernel_case import Case, Draw, Sizes, Step, Tensors, trained
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from hybrid.kernels.interval_attention import Intervals, interval_attention, plan_intervals
from hybrid.kernels.interval_attention_flex import flex_interval_attention, plan_flex
from hybrid.tuning.batch import TreeLayout, TreeSpan, positions, segments, visible_mask
from hybrid.tuning.sdpa import attend_by_tree


def cases(sizes: Sizes) -> list[Case]:
    """A case for each tree."""
    return [Tree(*tree, sizes.heads, sizes.key_heads, sizes.head_dim).case() for tree in sizes.trees]


class Tree(NamedTuple):
    """A context with branches of equal length, and the heads of its attention; inputs are queries, keys and values."""

    context: int
    sample: int
    branches: int
    heads: int
    key_heads: int
    dim: int

    def case(self) -> Case:
        """Attention of the tree, forward and backward."""
        pairs = self.context * (self.context + 1) / 2
        pairs += self.branches * self.sample * (self.context + (self.sample + 1) / 2)
        return Case(
            "interval_attention",
            f"P/s/G {self.context}/{self.sample}/{self.branches}, heads {self.heads}/{self.key_heads}x{self.dim}",
            self.inputs,
            {"hybrid": self.ours, "torch": self.plain, "flash": self.flash, "flex": self.flex, "sdpa": self.by_tree},
            bytes=0,
            flops=14 * pairs * self.dim * self.heads,
        )

    @property
    def scale(self) -> float:
        """Factor of the scores."""
        return float(self.dim**-0.5)

    @property
    def span(self) -> TreeSpan:
        """The tree, alone in its row."""
        return TreeSpan(0, self.context, (self.sample,) * self.branches)

    def inputs(self, draw: Draw) -> Tensors:
        """Draws queries, keys and values."""
        length = self.context + self.sample * self.branches
        return tuple(draw(1, n, length, self.dim, grad=True) for n in (self.heads, self.key_heads, self.key_heads))

    def plan(self, device: torch.device) -> Intervals:
        """The plan of our kernels, which is made once a batch and is not timed."""
        return plan_intervals(segments(self.span).to(device), positions(self.span).to(device), head_dim=self.dim)

    def ours(self, given: Tensors) -> Step:
        """The Triton kernel, or its torch twin with a dense mask."""
        plan = self.plan(given[0].device)
        return trained(lambda q, k, v: interval_attention(q, k, v, plan, self.scale))(given)

    def flex(self, given: Tensors) -> Step:
        """FlexAttention on the same plan."""
        plan = plan_flex(self.plan(given[0].device))
        return trained(lambda q, k, v: flex_interval_attention(q, k, v, plan, self.scale))(given)

    def by_tree(self, given: Tensors) -> Step:
        """Two calls of SDPA, as training on a CPU makes them."""
        layout = TreeLayout((self.span,))
        return trained(lambda q, k, v: attend_by_tree(q, k, v, layout, self.scale, None, None))(given)

    def plain(self, given: Tensors) -> Step:
        """One call of SDPA with a dense mask."""
        mask_LL = visible_mask(segments(self.span).to(given[0].device))

        def run(q_BHLD: Tensor, k_BKLD: Tensor, v_BKLD: Tensor) -> Tensor:
            keys, values = (x.repeat_interleave(self.heads // self.key_heads, dim=1) for x in (k_BKLD, v_BKLD))
            return scaled_dot_product_attention(q_BHLD, keys, values, attn_mask=mask_LL, scale=self.scale)

        return trained(run)(given)

    def flash(self, given: Tensors) -> Step:
        """The useful work alone, without merging what it gives: the context, all branches on it, each on itself."""
        call = partial(scaled_dot_product_attention, scale=self.scale, enable_gqa=True)

        def own(x_BHLD: Tensor) -> Tensor:
            own_HGsD = x_BHLD[0, :, self.context :].reshape(-1, self.branches, self.sample, self.dim)
            return own_HGsD.transpose(0, 1)

        def run(q: Tensor, k: Tensor, v: Tensor) -> Tensors:
            keys, values = k[:, :, : self.context], v[:, :, : self.context]
            with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                first = call(q[:, :, : self.context], keys, values, is_causal=True)
                second = call(q[:, :, self.context :], keys, values)
                return first, second, call(own(q), own(k), own(v), is_causal=True)

        step = trained(run)(given)
        return lambda: step()[:0]  # nothing that the other systems' results could be compared with
