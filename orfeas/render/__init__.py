"""Pictures of a mesh without GPU, display or GL: raster, camera, light, ground, still and turn, encode."""
