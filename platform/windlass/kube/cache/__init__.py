"""The shared cache of cluster objects: informers keep a store of transformed objects, and each is parsed once."""
