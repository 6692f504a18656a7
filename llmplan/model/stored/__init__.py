"""What published weight files say of themselves: headers only, bounded, nothing executed."""
