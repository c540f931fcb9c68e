"""What can be read from activations: linear, ridge and MLP probes, their solvers, and directions."""
