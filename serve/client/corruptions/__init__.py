"""The corruptions of CIFAR-10-C (Hendrycks & Dietterich 2019), written anew with their published parameters."""
