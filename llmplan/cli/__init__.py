"""The command line: options, one library call, one renderer. No arithmetic."""

import gc

# A command lives for a second and its objects to the end; collecting while modules load costs a
# sixth of the start-up.
gc.disable()
