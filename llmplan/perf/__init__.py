"""Time: kernels by measured efficiency, networks, steps."""
