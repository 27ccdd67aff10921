"""A small photo studio in Blender: shapes from a few numbers, materials, backdrops, light and a camera.

Used only by `make_examples.py`, inside Blender's own Python module (`bpy` on PyPI); the app never imports it.
Units are Blender's (about 2 a subject), Z up, the subject's front faces -Y and it stands on z = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import bpy
import numpy as np
from mathutils import Euler, Matrix, Vector

Paint = Callable[[np.ndarray], np.ndarray]


def linear(color: str) -> tuple[float, float, float]:
    """'#rrggbb' in sRGB -> linear RGB."""
    values = np.array([int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    return tuple(np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4))


# ---------------------------------------------------------------------------------------------- materials
def material(
    color: str,
    *,
    roughness: float = 0.5,
    metallic: float = 0.0,
    coat: float = 0.0,
    subsurface: float = 0.0,
    sheen: float = 0.0,
    bump: float = 0.0,
    bump_scale: float = 60.0,
    glow: float = 0.0,
    painted: bool = False,
) -> bpy.types.Material:
    """A principled material; `painted` takes its colour from the mesh's `paint` instead."""
    made = bpy.data.materials.new(color)
    made.use_nodes = True
    nodes, links = made.node_tree.nodes, made.node_tree.links
    shader = nodes["Principled BSDF"]
    values = {
        "Base Color": (*linear(color), 1),
        "Roughness": roughness,
        "Metallic": metallic,
        "Coat Weight": coat,
        "Coat Roughness": 0.06,
        "Subsurface Weight": subsurface,
        "Subsurface Scale": 0.12,
        "Sheen Weight": sheen,
        "Emission Color": (*linear(color), 1),
        "Emission Strength": glow,
    }
    for name, value in values.items():
        shader.inputs[name].default_value = value
    if painted:
        attribute = nodes.new("ShaderNodeAttribute")
        attribute.attribute_name = "paint"
        links.new(attribute.outputs["Color"], shader.inputs["Base Color"])
    if bump:
        noise, relief = nodes.new("ShaderNodeTexNoise"), nodes.new("ShaderNodeBump")
        noise.inputs["Scale"].default_value = bump_scale
        noise.inputs["Detail"].default_value = 5
        relief.inputs["Strength"].default_value = bump
        relief.inputs["Distance"].default_value = 0.02
        coordinates = nodes.new("ShaderNodeTexCoord")
        links.new(coordinates.outputs["Object"], noise.inputs["Vector"])
        links.new(noise.outputs["Fac"], relief.inputs["Height"])
        links.new(relief.outputs["Normal"], shader.inputs["Normal"])
    return made


def wood(dark: str, light: str, *, grain: tuple[float, float, float], roughness: float = 0.4, planks: float = 0):
    """Wood: noise stretched along the axis whose `grain` scale is small; `planks` is their width along y."""
    made = material(light, roughness=roughness)
    nodes, links = made.node_tree.nodes, made.node_tree.links
    shader = nodes["Principled BSDF"]
    coordinates, mapping = nodes.new("ShaderNodeTexCoord"), nodes.new("ShaderNodeMapping")
    noise, ramp = nodes.new("ShaderNodeTexNoise"), nodes.new("ShaderNodeValToRGB")
    mapping.inputs["Scale"].default_value = grain
    noise.inputs["Scale"].default_value = 1.6
    noise.inputs["Detail"].default_value = 9
    noise.inputs["Distortion"].default_value = 0.9
    ramp.color_ramp.elements[0].position, ramp.color_ramp.elements[1].position = 0.32, 0.72
    ramp.color_ramp.elements[0].color = (*linear(dark), 1)
    ramp.color_ramp.elements[1].color = (*linear(light), 1)
    links.new(coordinates.outputs["Object"], mapping.inputs["Vector"])
    links.new(mapping.outputs["Vector"], noise.inputs["Vector"])
    links.new(noise.outputs["Fac"], ramp.inputs["Fac"])
    color = ramp.outputs["Color"]
    if planks:
        brick, mix = nodes.new("ShaderNodeTexBrick"), nodes.new("ShaderNodeMix")
        brick.inputs["Scale"].default_value = 1
        brick.inputs["Brick Width"].default_value = 9
        brick.inputs["Row Height"].default_value = planks
        brick.inputs["Mortar Size"].default_value = 0.012
        brick.inputs["Color1"].default_value = (1, 1, 1, 1)
        brick.inputs["Color2"].default_value = (0.72, 0.70, 0.68, 1)
        brick.inputs["Mortar"].default_value = (0.12, 0.09, 0.07, 1)
        mix.data_type, mix.blend_type = "RGBA", "MULTIPLY"
        mix.inputs["Factor"].default_value = 1
        links.new(coordinates.outputs["Object"], brick.inputs["Vector"])
        links.new(color, mix.inputs[6])
        links.new(brick.outputs["Color"], mix.inputs[7])
        color = mix.outputs[2]
    links.new(color, shader.inputs["Base Color"])
    return made


# ------------------------------------------------------------------------------------------------- shapes
def add_mesh(vertices, faces, look, *, paint: Paint | None = None, smooth: bool = True, subject: bool = True):
    """Vertices (n, 3) and faces (any polygons) as a new object; `paint` maps vertices to linear colours."""
    data = bpy.data.meshes.new("mesh")
    data.from_pydata(np.asarray(vertices, float).tolist(), [], [list(map(int, face)) for face in faces])
    data.update()
    return _finish(data, look, paint, smooth, subject)


def _positions(made) -> np.ndarray:
    positions = np.empty(len(made.data.vertices) * 3)
    made.data.vertices.foreach_get("co", positions)
    return positions.reshape(-1, 3)


def _finish(data, look, paint, smooth, subject):
    if paint:
        positions = np.empty(len(data.vertices) * 3)
        data.vertices.foreach_get("co", positions)
        colors = np.ones((len(data.vertices), 4))
        colors[:, :3] = paint(positions.reshape(-1, 3))
        layer = data.color_attributes.new("paint", "FLOAT_COLOR", "POINT")
        layer.data.foreach_set("color", colors.ravel())
    data.polygons.foreach_set("use_smooth", [smooth] * len(data.polygons))
    made = bpy.data.objects.new("object", data)
    made["subject"] = subject
    data.materials.append(look)
    bpy.context.collection.objects.link(made)
    return made


def smooth_path(points, count: int = 64) -> np.ndarray:
    """(count, d) points on the Catmull-Rom curve through `points`, evenly spread over their chord lengths."""
    points = np.asarray(points, float)
    padded = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    knots = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.linspace(0, knots[-1], count)
    k = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, len(points) - 2)
    t = ((at - knots[k]) / (knots[k + 1] - knots[k]))[:, None]
    a, b, c, d = (padded[k + shift] for shift in range(4))
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)


def grid_faces(rows: int, columns: int, *, wrap: bool) -> list[tuple[int, int, int, int]]:
    last = columns if wrap else columns - 1
    return [
        (r * columns + c, r * columns + (c + 1) % columns, (r + 1) * columns + (c + 1) % columns, (r + 1) * columns + c)
        for r in range(rows - 1)
        for c in range(last)
    ]


def lathe(
    profile, look, *, count: int = 160, around: int = 128, ribs: int = 0, depth: float = 0.0, at=(0, 0, 0), **options
):
    """Turn the curve through (radius, z) points round the z axis; `ribs` waves of relative `depth` around it."""
    curve = smooth_path(profile, count)
    curve[:, 0] = np.maximum(curve[:, 0], 1e-4)
    angle = np.linspace(0, 2 * math.pi, around, endpoint=False)
    wave = 1 - depth * (0.5 - 0.5 * np.cos(ribs * angle))
    x = curve[:, :1] * np.cos(angle) * wave + at[0]
    y = curve[:, :1] * np.sin(angle) * wave + at[1]
    z = np.repeat(curve[:, 1:] + at[2], around, axis=1)
    return add_mesh(np.stack([x, y, z], -1).reshape(-1, 3), grid_faces(count, around, wrap=True), look, **options)


def sweep(
    points, radii, look, *, count: int = 64, around: int = 32, flat: float = 1.0, side=None, open_end=False, **options
):
    """A round tube (`flat` < 1: an ellipse thin along `side`) along a smooth path, its ends rounded off."""
    radii = np.atleast_1d(np.asarray(radii, float))
    path = smooth_path(points, count)
    radius = np.interp(np.linspace(0, 1, count), np.linspace(0, 1, len(radii)), radii)
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    cap = np.linspace(0, math.pi / 2, 8)
    start = [(path[0] - tangent[0] * radius[0] * math.cos(a), tangent[0], radius[0] * math.sin(a)) for a in cap]
    end = [(path[-1] + tangent[-1] * radius[-1] * math.sin(a), tangent[-1], radius[-1] * math.cos(a)) for a in cap]
    rings = start + list(zip(path, tangent, radius, strict=True)) + ([] if open_end else end)
    first = np.asarray(side if side is not None else (0.31, 0.87, 0.38), float)
    angle = np.linspace(0, 2 * math.pi, around, endpoint=False)
    vertices = []
    for centre, along, size in rings:
        first = first - along * (first @ along)
        first /= np.linalg.norm(first)
        second = np.cross(along, first)
        vertices.append(
            centre + max(size, 1e-4) * (np.outer(np.cos(angle) * flat, first) + np.outer(np.sin(angle), second))
        )
    return add_mesh(np.concatenate(vertices), grid_faces(len(rings), around, wrap=True), look, **options)


def ball(centre, radii, look, *, turn=(0, 0, 0), **options):
    """An ellipsoid: radii one or three numbers; turn in degrees about x, y, z."""
    radii = np.broadcast_to(np.asarray(radii, float), 3)
    angle = np.linspace(-math.pi / 2, math.pi / 2, 40)
    made = lathe(np.stack([np.cos(angle), np.sin(angle)], 1), look, count=40, around=64, **options)
    made.scale, made.location = Vector(radii), Vector(centre)
    made.rotation_euler = [math.radians(a) for a in turn]
    return made


def box(centre, size, look, *, bevel: float = 0.05, turn=(0, 0, 0), taper: float = 1.0, **options):
    """A box with rounded edges, its top `taper` times as wide as its bottom."""
    corner = np.array([(x, y, z) for z in (-0.5, 0.5) for y in (-0.5, 0.5) for x in (-0.5, 0.5)]) * size
    corner[4:, :2] *= taper
    faces = [(0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (1, 3, 7, 5), (3, 2, 6, 7), (2, 0, 4, 6)]
    made = add_mesh(corner, faces, look, **options)
    made.location, made.rotation_euler = Vector(centre), [math.radians(a) for a in turn]
    return _bevel(made, bevel)


def plate(outline, thickness: float, look, *, bevel: float = 0.03, **options):
    """A closed (x, z) outline, `thickness` deep along y about y = 0, with rounded edges."""
    outline = np.asarray(outline, float)
    n = len(outline)
    front = np.insert(outline, 1, -thickness / 2, axis=1)
    back = np.insert(outline, 1, thickness / 2, axis=1)
    faces = [tuple(range(n)), tuple(range(2 * n - 1, n - 1, -1))]
    faces += [((k + 1) % n, k, n + k, n + (k + 1) % n) for k in range(n)]
    return _bevel(add_mesh(np.vstack([front, back]), faces, look, **options), bevel)


def _bevel(made, width: float):
    if width:
        bevel = made.modifiers.new("bevel", "BEVEL")
        bevel.width, bevel.segments, bevel.limit_method = width, 6, "ANGLE"
        bevel.angle_limit = math.radians(25)
        made.modifiers.new("normals", "WEIGHTED_NORMAL").keep_sharp = False
    return made


def blob(
    parts: Sequence, look, *, voxel: float = 0.025, soften: int = 14, paint: Paint | None = None, subject: bool = True
):
    """Ellipsoids (centre, radii[, turn]) melted into one skin: voxel remesh, then smoothing."""
    balls = [ball(part[0], part[1], look, turn=part[2] if len(part) > 2 else (0, 0, 0)) for part in parts]
    vertices, faces, offset = [], [], 0
    bpy.context.view_layer.update()
    for one in balls:
        vertices += [one.matrix_world @ v.co for v in one.data.vertices]
        faces += [[v + offset for v in face.vertices] for face in one.data.polygons]
        offset = len(vertices)
        bpy.data.objects.remove(one)
    rough = add_mesh(vertices, faces, look)
    remesh = rough.modifiers.new("remesh", "REMESH")
    remesh.mode, remesh.voxel_size = "VOXEL", voxel
    relax = rough.modifiers.new("smooth", "SMOOTH")
    relax.factor, relax.iterations = 0.5, soften
    data = bpy.data.meshes.new_from_object(rough.evaluated_get(bpy.context.evaluated_depsgraph_get()))
    bpy.data.objects.remove(rough)
    data.materials.clear()
    return _finish(data, look, paint, True, subject)


def placed(location, turn_degrees) -> Matrix:
    """The matrix that turns about x, y, z and then moves to `location`."""
    return Matrix.LocRotScale(Vector(location), Euler([math.radians(a) for a in turn_degrees]), None)


# ----------------------------------------------------------------------------------- backdrop, light, camera
def backdrop(floor: str, wall: str) -> None:
    """A seamless paper sweep whose colour runs from `floor` to `wall`."""
    bend = np.linspace(0, math.pi / 2, 90)
    sweep_up = np.stack([1.5 + 6 * np.sin(bend), 6 - 6 * np.cos(bend)], 1)
    path = np.vstack([np.stack([np.linspace(-16, 1.4, 60), np.zeros(60)], 1), sweep_up, [(7.5, 16)]])
    vertices = np.array([(x, y, z) for y, z in path for x in (-25.0, 25.0)])

    def fade(points: np.ndarray) -> np.ndarray:
        t = np.clip((points[:, 1:2] + 1) / 8 * 0.45 + points[:, 2:3] / 5 * 0.55, 0, 1)
        return (1 - t) * linear(floor) + t * np.array(linear(wall))

    look = material(floor, roughness=0.9, painted=True)
    paper = add_mesh(vertices, grid_faces(len(path), 2, wrap=False), look, paint=fade, subject=False)
    paper["follows_camera"] = True


def table(wall: str) -> None:
    """A wooden table top and, far behind it, a dim room with a few soft lights out of focus."""
    top = add_mesh(
        [(-9, -9, 0), (9, -9, 0), (9, 3.4, 0), (-9, 3.4, 0)],
        [(0, 1, 2, 3)],
        wood("#5b3416", "#b07c49", grain=(0.35, 5.0, 5.0), roughness=0.38, planks=1.35),
        subject=False,
    )
    top["follows_camera"] = True
    room = add_mesh(
        [(-40, 16, -8), (40, 16, -8), (40, 16, 20), (-40, 16, 20)],
        [(0, 1, 2, 3)],
        material(wall, roughness=1, glow=0.5),
        subject=False,
    )
    room["follows_camera"] = True
    generator = np.random.default_rng(4)
    for tint in ("#ffd9a0", "#ffe9c8", "#cfe6ff", "#ffc27a", "#fff4e0", "#ffd9a0", "#bfe0d0"):
        place = np.array((generator.uniform(-4.5, 4.5), 14.5, generator.uniform(0.2, 4.0)))
        lamp = ball((0, 0, 0), 1, material(tint, glow=3), subject=False)
        lamp.data.vertices.foreach_set("co", np.ravel(_positions(lamp) * generator.uniform(0.12, 0.3) + place))
        lamp["follows_camera"] = True


def light(kind_from, energy: float, size: float, tint: str = "#ffffff") -> None:
    """A square soft box at `kind_from`, aimed at the subject."""
    lamp = bpy.data.lights.new("area", "AREA")
    lamp.energy, lamp.size, lamp.color = energy, size, linear(tint)
    made = bpy.data.objects.new("area", lamp)
    made.location = kind_from
    made.rotation_euler = (Vector((0, 0, 0.8)) - Vector(kind_from)).to_track_quat("-Z", "Y").to_euler()
    bpy.context.collection.objects.link(made)


def soft_light(strength: float = 1.0, ambient: float = 0.45) -> None:
    """Big key from the upper left, fill from the right, a rim from behind, and a bright even sky."""
    light((-4.5, -4.5, 6.0), 600 * strength, 2.6, "#fff6ea")
    light((5.5, -4.0, 3.0), 110 * strength, 4.0, "#eaf2ff")
    light((2.5, 4.5, 5.5), 330 * strength, 2.5)
    world = bpy.data.worlds.new("sky")
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs["Color"].default_value = (1, 1, 1, 1)
    world.node_tree.nodes["Background"].inputs["Strength"].default_value = ambient
    bpy.context.scene.world = world


def aim(
    azimuth_degrees: float, elevation_degrees: float, *, margin: float = 1.3, blur: float = 0.0, lift: float = 0.0
) -> None:
    """Look at everything marked as subject, `margin` times as far as it would just fit; `blur` is 1 / f-stop."""
    scene, graph = bpy.context.scene, bpy.context.evaluated_depsgraph_get()
    graph.update()
    points = []
    for made in scene.objects:
        if made.get("follows_camera"):
            made.rotation_euler = (0, 0, math.radians(azimuth_degrees))
        elif made.type == "MESH" and made["subject"]:
            ready = made.evaluated_get(graph)
            points += [ready.matrix_world @ v.co for v in ready.data.vertices]
    middle = (Vector(np.min(points, axis=0)) + Vector(np.max(points, axis=0))) / 2
    a, e = math.radians(azimuth_degrees), math.radians(elevation_degrees)
    back = Vector((math.sin(a) * math.cos(e), -math.cos(a) * math.cos(e), math.sin(e)))
    lens = bpy.data.cameras.new("camera")
    lens.lens = 80
    camera = bpy.data.objects.new("camera", lens)
    camera.rotation_euler = back.to_track_quat("Z", "Y").to_euler()
    camera.location = middle + back * 10
    scene.collection.objects.link(camera)
    scene.camera = camera
    bpy.context.view_layer.update()
    fit, _ = camera.camera_fit_coords(bpy.context.evaluated_depsgraph_get(), [c for p in points for c in p])
    distance = (fit - middle).dot(back)
    sideways = fit - middle - back * distance
    camera.location = middle + sideways + back * distance * margin + Vector((0, 0, lift))
    if blur:
        lens.dof.use_dof = True
        lens.dof.focus_distance = distance * margin - 0.5
        lens.dof.aperture_fstop = 1 / blur


def start(size: int) -> None:
    """An empty scene for a square picture of `size` pixels."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.resolution_x = bpy.context.scene.render.resolution_y = size


def photograph(path: Path, *, samples: int, transparent: bool) -> None:
    """Render with Cycles on the CPU to a PNG at `path`, denoised, always from the same seed."""
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.device, scene.cycles.samples, scene.cycles.seed = "CPU", samples, 0
    scene.cycles.use_denoising, scene.cycles.denoiser = True, "OPENIMAGEDENOISE"
    scene.cycles.max_bounces = 5
    scene.cycles.use_adaptive_sampling, scene.cycles.adaptive_threshold = True, 0.03
    scene.cycles.adaptive_min_samples = 8
    scene.render.film_transparent = transparent
    scene.view_settings.view_transform = "Khronos PBR Neutral"
    scene.view_settings.exposure = 0.0
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGBA" if transparent else "RGB"
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)
