"""Small mechanisms that every part uses: standard library only, no knowledge of Windlass."""
