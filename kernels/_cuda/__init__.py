"""What the wrappers of NVIDIA's sparse libraries share: bindings, handles, lifetimes, plans, errors, versions."""
