"""Analytic fields for the tests of volume and surface: > 0 inside, scaled like logits."""

import torch

SCALE = 25.0


def sphere(points, radius=0.6, centre=(0.0, 0.0, 0.0)):
    return SCALE * (radius - (points - torch.tensor(centre)).norm(dim=-1))


def torus(points):
    ring = points[:, [0, 2]].norm(dim=-1) - 0.6
    return SCALE * (0.2 - torch.stack((ring, points[:, 1]), -1).norm(dim=-1))


def touching_blobs(points):
    return torch.maximum(sphere(points, 0.4, (0.4, 0.0, 0.0)), sphere(points, 0.4, (-0.4, 0.0, 0.0)))


def plate(points, thickness=0.02, tilt=0.0, scale=SCALE):
    normal = torch.tensor([1.0, tilt, tilt / 2])
    normal = normal / normal.norm()
    return -scale * torch.maximum((points @ normal + 0.003).abs() - thickness / 2, points[:, 1:].abs().amax(-1) - 0.7)


def gyroid(points):
    wave = (torch.sin(9 * points) * torch.cos(9 * points.roll(1, -1))).sum(-1)
    return torch.minimum(SCALE * (0.9 - points.norm(dim=-1)), 6 * wave)


def cylinder(points):
    """Runs through the box from floor to ceiling."""
    return SCALE * (0.5 - points[:, [0, 2]].norm(dim=-1))


def saturated(points):
    """Cut off at 1, as the trained field is."""
    return torch.tanh(40 * (0.6 - points.norm(dim=-1)))


def solid_box(points):
    return torch.full((len(points),), 5.0)


def nothing(points):
    return torch.full((len(points),), -5.0)


def drain(generator):
    """The yielded values and the returned one."""
    yielded = []
    while True:
        try:
            yielded.append(next(generator))
        except StopIteration as stop:
            return yielded, stop.value
