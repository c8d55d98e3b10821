"""Mutation testing: changes one place of a module at a time and checks that its tests fail.

No file is changed: a mutant is compiled from a changed syntax tree, and a forked process imports it and runs the tests
of the module. ``targets.toml`` lists the modules and their tests, ``survivors.toml`` the accepted survivors.
"""
