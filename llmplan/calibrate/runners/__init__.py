"""How torch runs each operator, chosen by the operator's type.

Importing this package enters all runners in the table of ``calibrate.kernel.kernels``.
"""

from llmplan.calibrate.runners import (
    attention,
    compressed,
    differential,
    experts,
    latent,
    look_ups,
    norms,
    pixels,
    products,
    recurrent,
    scans,
    sparse,
    streams,
    vectors,
)

RUNNERS = (
    attention,
    compressed,
    differential,
    experts,
    latent,
    look_ups,
    norms,
    pixels,
    products,
    recurrent,
    scans,
    sparse,
    streams,
    vectors,
)
"""The modules that have some."""
