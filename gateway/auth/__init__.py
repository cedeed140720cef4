"""A credential in, a `Principal` out; and whatever makes, renews or revokes a credential."""
