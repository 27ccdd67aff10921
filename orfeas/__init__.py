"""ORFEAS: one photo in; a solid, coloured, printable 3D model out."""
