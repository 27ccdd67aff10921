"""Hunyuan3D-2.1 shape inference, from the picture to a field, in plain PyTorch.

A picture is cut square (`preprocess`), seen by DINOv2-Large (`dino`), and steers a flow-matching transformer (`dit`,
`moe`, `sampler`) from noise to 4096 latents, which the decoder of an autoencoder (`vae`) turns into a field whose
positive side is the inside of the shape. Importing this package imports nothing heavy: each module is asked for by
name.
"""
