"""Endpoints served by RayServices: names, status, and the serving back end of the control plane."""
