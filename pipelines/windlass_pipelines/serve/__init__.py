"""Model serving on Ray Serve: a controller process deploys one application per desired model version."""
