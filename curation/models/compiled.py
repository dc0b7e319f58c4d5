"""Compilation of an encoder's passes with `torch.compile`, for fixed shapes.

Compiled passes round differently and have other speed, so they are a setting of the machine (`compute.compile`) and not
part of a fingerprint: in fp32 vectors differ by 2e-7 from those without (measured on proxies), as much as between two
CPUs and a thousandth of what is allowed between a CPU and a GPU, which are not part of it either; in bf16, where fusion
keeps some intermediate results in fp32, by up to 0.003, as much as bf16 differs from fp32.

When to use it: on GPUs, in long runs. The first batch of each shape takes 10 s or more in every process; torch keeps
the generated code on the node's disk. A machine needs a C++ compiler.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Pass = Callable[[torch.Tensor], torch.Tensor]

COMPILED_LENGTH_STEP = 16  # tokens: half as many shapes of captions to compile as without
SHAPES = 64  # of one function; torch gives up after 8, and then runs it uncompiled without a word


def compiled(function: Pass) -> Pass:
    """Return `function` compiled for each shape of its arguments that occurs, without generalising over shapes."""
    torch._dynamo.config.recompile_limit = SHAPES
    faster: Pass = torch.compile(function, dynamic=False)
    return faster
