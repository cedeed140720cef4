"""The pure core: no await, clock, random source, socket or SQL; times and nonces are arguments."""
