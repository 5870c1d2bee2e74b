"""Personal data and secrets in texts: found by form and checksum, shown masked, replaced. Pure but for `presidio`."""
