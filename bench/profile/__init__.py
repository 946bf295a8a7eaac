"""Why is a kernel slow? One launch seen by Nsight Compute, the model's assumptions held against it, in words."""
