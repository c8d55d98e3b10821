"""The demo: fine-tunes, evaluates and serves two models on this machine with the SDK."""
