"""An untrusted upload becomes an `ImageSet`: see `intake.prepare`."""
