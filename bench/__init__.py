"""Ratios against kubectl, kubernetes.aio and bare Python, measured in the same run."""
