"""How long a kernel takes: physics with a few fitted parameters, one module per operator table."""
