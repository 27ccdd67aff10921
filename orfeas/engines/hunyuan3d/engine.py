"""Hunyuan3D-2.1 as an `orfeas.engines.Engine`: picture -> features -> latents -> field -> mesh.

None of this has run on a GPU: what is known of one was counted, or checked on the CPU under CUDA's rules
(``tests/engines/hunyuan3d/cuda_rules.py``); the published weights have not been run either.

``torch.compile`` was tried on the CPU only (torch 2.13, the tests' small sizes): the encoder, the dense blocks, the
latent decoder and the field are one graph each, every layer with experts breaks its own in three (the host has to know
the slices, see `moe`), and results differ by 2e-6. Compiling took a minute for the field and almost six for the
transformer (two busy cores), and no gain was to be seen. It is left out: every first job would wait for it, also the
first after a change of policy, and every one on ZeroGPU; and at the released sizes the launches should hide behind the
matrix products. CUDA graphs cannot hold the experts for the same reason. Neither was tried on a GPU.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import time
from collections import OrderedDict
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from orfeas.engines import Step
from orfeas.engines.gpu import explain_lost_gpu
from orfeas.engines.hunyuan3d.approximations import EXPERTS_IN_8_BIT, Approximations
from orfeas.engines.hunyuan3d.checkpoint import open_checkpoint
from orfeas.engines.hunyuan3d.config import RELEASED, ModelConfig
from orfeas.engines.hunyuan3d.preprocess import prepare_image
from orfeas.engines.hunyuan3d.residency import (
    INT8,
    RESIDENT,
    Networks,
    Residency,
    choose_residency,
    free_gigabytes,
    keep_off_system_memory,
    model_gigabytes,
    release_memory,
)
from orfeas.engines.hunyuan3d.sampler import draw_noise, sample
from orfeas.engines.hunyuan3d.surface import extract_surface, refine_surface
from orfeas.engines.hunyuan3d.top_latents import TopLatentsField
from orfeas.engines.hunyuan3d.vae import GeoField
from orfeas.engines.hunyuan3d.volume import choose_chunk, dense, hierarchical
from orfeas.engines.hunyuan3d.weights import identify
from orfeas.errors import BadRequest, BadWeights, EngineUnavailable, OrfeasError, OutOfMemory
from orfeas.mesh import Mesh
from orfeas.telemetry import log

if TYPE_CHECKING:
    from orfeas.cutout import Cutout
    from orfeas.request import Quality


GUIDANCE = 5.0
VOLUMES = ("hierarchical", "dense")
REFINE_FROM = 512  # grids from here on (quality "high") get their vertices moved onto the field
FEATURES_KEPT = 8  # pictures; 2.8 MB each
# Where each stage begins in the shape's progress; from the counted work of a standard job (30 steps, R = 384).
STARTS = {"features": 0.0, "diffusion": 0.02, "decoding": 0.80, "volume": 0.82, "surface": 0.97}
PART_NAMES = {"conditioner": "the picture's encoder", "model": "the transformer", "vae": "the decoder"}  # for people
FIELD_NOTE = "Memory ran out while the field was read, so it is read in pieces of half the size."
_MEMORY_WORDS = ("out of memory", "can't allocate memory", "alloc_failed", "when calling `cublascreate")


@dataclass
class _Job:
    """One shape on its way: what is done is kept, so that a retry after running out of memory goes on from there."""

    quality: Quality
    seed: int = 0
    pixels: np.ndarray | None = None
    latents: Tensor | None = None  # (1, T, channels) float32 on the CPU, rounded to half precision
    starts_at: float = 0.0  # of the whole way (`STARTS`); progress counts from here
    fraction: float = 0.0  # of the job
    sampled_with: list[str] = field(default_factory=list)  # approximations; none known for a latent of before
    sampled_keys: list[str] = field(default_factory=list)  # the same, as `Hunyuan3DEngine.version` has them
    stage: str = ""  # of `STARTS`, the last begun
    chunk: int | None = None  # points of the field at once
    seconds: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


class Hunyuan3DEngine:
    """An `orfeas.engines.Engine`. ``quality.grid`` is R, the cells along an axis; ``quality.steps`` the diffusion's.

    weights: the file of weights (`orfeas.engines.hunyuan3d.locate` finds it). device: "cpu", "cuda" or
    "cuda:N". residency: a key of `residency.POLICIES`, or None to choose by free memory when loading. volume: how the
    field is asked, "hierarchical", near the surface only, or "dense", at every sample, for the same mesh in many times
    the time. networks: made elsewhere (benchmarks run random ones), in place of those in the file.
    Raises `BadRequest` for another volume.
    """

    name = "hunyuan3d"
    title = "Hunyuan3D-2.1"
    slots = 1

    def __init__(
        self,
        weights: Path,
        *,
        config: ModelConfig = RELEASED,
        device: str = "cuda",
        reason: str = "",
        residency: str | None = None,
        approximations: Approximations | None = None,
        refine_from: int = REFINE_FROM,
        volume: str = "hierarchical",
        networks: Networks | None = None,
    ):
        if volume not in VOLUMES:
            raise BadRequest(f"The volume cannot be {volume!r}: use {' or '.join(VOLUMES)}.", "bad_choice")
        self.weights, self.config, self.volume = Path(weights), config, volume
        self.device = "cuda:0" if device == "cuda" else device
        self.reason = reason or f"Hunyuan3D was asked for, on {self.device}."
        self.approximations = approximations or Approximations()
        self.refine_from = refine_from
        self._where = torch.device(self.device)
        # Half precision is how the weights are published; on the CPU it would be slower than float32, not faster.
        self.dtype = torch.float16 if self._where.type == "cuda" else torch.float32
        self._policy = residency
        self._networks = networks
        self._features: OrderedDict[str, Tensor] = OrderedDict()
        self._stepped_down = False  # memory ran out since the policy was chosen
        self._lost = ""  # why this process cannot use its GPU any more
        self._closed = False

    @property
    def version(self) -> str:
        """Of what a job would make now; what made a result is its fact ``engine_version``."""
        return self._name_version(self._sampling_keys())

    def _name_version(self, sampling_keys: list[str]) -> str:
        precision = str(self.dtype).removeprefix("torch.")
        weights = [self._identity] if self._identity else []
        return "-".join(["hunyuan3d-2.1-1", precision, *weights, *sampling_keys, *self.approximations.field_keys()])

    @functools.cached_property
    def _identity(self) -> str:
        """Of the weights, as `identify` has it; "" without a file that can be read, which `load` tells of."""
        try:
            return identify(open_checkpoint(self.weights))
        except BadWeights:
            return ""

    @property
    def caveat(self) -> str:
        """Of what a job would make now; a result's own are its facts ``approximations`` and ``approximation_note``."""
        names = self._sampling_names() + self.approximations.field_names()
        return f"Approximated for speed or memory: {', '.join(names)}." if names else ""

    @property
    def _has_experts_in_8_bit(self) -> bool:
        return self._networks is not None and self._networks.residency.name == INT8

    def _sampling_names(self) -> list[str]:
        return self.approximations.sampling_names() + ([EXPERTS_IN_8_BIT] if self._has_experts_in_8_bit else [])

    def _sampling_keys(self) -> list[str]:
        return (["int8"] if self._has_experts_in_8_bit else []) + self.approximations.sampling_keys()

    def load(self) -> None:
        """Check the weights and read what may stay in memory. Raises `BadWeights` or `EngineUnavailable`."""
        self._refuse_if_closed()
        if self._networks is not None:
            return
        if self._where.type == "cuda":
            _find_gpu(self._where)
        networks = Networks(self.weights, self.config, self._where, self.dtype, self._choose_residency())
        try:
            networks.preload()
            fits = True
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            fits = False
        if not fits:  # out of the handler, whose traceback holds what was half loaded
            if networks.step_down() is None:
                raise self._memory_error()
            self._stepped_down = True
        self._networks = networks

    def plan_residency(self) -> Residency:
        """What would lie in memory, and why, if a job came now. Raises `EngineUnavailable` if nothing fits."""
        if self._policy is not None:
            return Residency(self._policy, f"The policy {self._policy!r} was asked for.")
        model_gb = model_gigabytes(self.config, self.dtype)
        return choose_residency(free_gigabytes(self._where), model_gb, self.device)

    def _choose_residency(self) -> Residency:
        residency = self.plan_residency()
        if self._policy is None:
            keep_off_system_memory(self._where)
        log.info("weights_placed", reason=residency.reason)
        return residency

    def health(self) -> dict[str, Any]:
        """Plain facts, at once, also while a job runs."""
        networks = self._networks
        facts: dict[str, Any] = {
            "engine": self.name,
            "version": self.version,
            "device": self.device,
            "ready": networks is not None and not self._lost,
            "precision": str(self.dtype).removeprefix("torch."),
            "weights": self.weights.name,
            "approximations": self._sampling_names() + self.approximations.field_names(),
        }
        if self._lost:
            facts["problem"] = self._lost
        if networks is not None:
            facts |= {"residency": networks.residency.name, "residency_reason": networks.residency.reason}
            if self._where.type == "cuda" and not self._lost:
                facts["vram_used_gb"] = round(torch.cuda.memory_allocated(self._where) / 1e9, 2)
        return facts

    def close(self) -> None:
        """Give back all memory. The engine cannot be used afterwards."""
        self._closed = True
        self._features.clear()
        if self._networks is not None:
            if not self._lost:
                self._networks.drop()
            self._networks = None

    def shape(self, cutout: Cutout, quality: Quality, seed: int) -> Iterator[Step | Mesh]:
        """Yield a step after each diffusion step and each chunk of the volume, then the mesh.

        The last step's facts hold ``shape_seconds`` by stage, with "weights" for networks that had to be read in the
        job, ``peak_vram_mb`` (on a GPU; with what torch's allocator keeps, without what CUDA itself takes),
        ``residency``, how the shape was approximated, and ``latent`` (T, channels) float16, from which `remesh` makes
        the mesh again. Raises `OrfeasError` with code "no_surface" where the field has none, `OutOfMemory` where even a
        leaner policy does not fit; the next job finds a working engine in either case. Raises `EngineUnavailable` with
        code "broken_gpu" where the GPU failed; so does every job after it.
        """
        yield from self._run(_Job(quality, seed, prepare_image(cutout.rgba, self.config)))

    def remesh(self, latent: np.ndarray, quality: Quality) -> Iterator[Step | Mesh]:
        """Another grid for the latent of an earlier job, without diffusion; the same grid gives the same mesh.

        latent: (T, channels) as in the facts of `shape`. The facts are those of `shape`, without the diffusion's: how
        the latent was sampled is its owner's to know.
        Raises `BadRequest` for another shape.
        """
        expected = self.config.latent_shape[1:]
        latent = np.asarray(latent)
        if latent.shape != expected or not np.issubdtype(latent.dtype, np.floating) or not np.isfinite(latent).all():
            raise BadRequest(
                f"A latent of shape {latent.shape} and type {latent.dtype} cannot be meshed: it has to be {expected}"
                " finite floating-point numbers of the same model; without it, the shape is made anew.",
                "bad_latent",
            )
        latents = torch.from_numpy(latent.astype(np.float32))[None]
        yield from self._run(_Job(quality, latents=latents, starts_at=STARTS["decoding"]))

    # --- one job --------------------------------------------------------------------------------------------------

    def _run(self, job: _Job) -> Iterator[Step | Mesh]:
        """The job, and once again, leaner, from where it was, if the device runs out of memory."""
        self._refuse_if_closed()
        try:
            if self._stepped_down:  # what held the memory then may be gone: no approximation stays for good
                self._networks.drop()
                self._networks.residency = self._choose_residency()
                self._stepped_down = False
            self.load()
            if self._where.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self._where)
            for retry in (False, True):
                try:
                    for event in self._stages(job):
                        yield _not_backwards(event, job)
                    return
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                # Out of the handler: what the traceback held is free now, and the networks can go.
                gc.collect()  # but for tensors in a ring
                note = "" if retry else self._make_room(job)
                if not note:
                    self._networks.drop()
                    raise self._memory_error()
                job.facts["memory_note"] = note
                yield Step(job.fraction, note)
        except Exception as error:
            if is_gpu_lost(error):
                self._lost = explain_lost_gpu(self.device, error)
                raise EngineUnavailable(self._lost, "broken_gpu") from error
            raise
        finally:
            self._tidy()

    def _tidy(self) -> None:
        """Give back what a job left. A GPU that fails at that is told of at the next job: this one has its own end."""
        if self._lost:
            return
        try:
            release_memory(self._where)
        except Exception as error:
            self._lost = explain_lost_gpu(self.device, error)
            log.error("gpu_lost", problem=self._lost)

    def _make_room(self, job: _Job) -> str:
        """Prepare the second try; says how in a sentence, "" if there is no way.

        The points of the field asked for at once take the memory of the last two stages, whatever the policy.
        """
        if job.stage in ("volume", "surface"):
            self._networks.drop(keep="vae")
            job.chunk = max(1, job.chunk // 2) if job.chunk else None
            log.warning("field_note", note=FIELD_NOTE)
            return FIELD_NOTE
        leaner = self._networks.step_down()
        self._stepped_down = leaner is not None
        return leaner.reason if leaner else ""

    def _stages(self, job: _Job) -> Iterator[Step | Mesh]:
        if job.latents is None:
            yield Step(STARTS["features"], "Looking at the picture")
            features = yield from self._look(job)
            yield from self._diffuse(job, features)
            del features
        yield from self._bring(job, "vae", "decoding")
        yield Step(STARTS["decoding"], "Decoding the latents")
        with self._timed(job, "decoding"):
            vae = self._networks.get("vae")
            with torch.no_grad():
                decoded = vae.latent_decoder(job.latents.to(self._where))
                if self.approximations.top_latents:
                    kept = max(1, self.config.vae.tokens // 3)
                    geometry = TopLatentsField(vae.geo_decoder, decoded, kept, self.config.box)
                else:
                    geometry = GeoField(vae.geo_decoder, decoded)
            del decoded
        yield from self._mesh(job, geometry)

    def _bring(self, job: _Job, part: str, stage: str) -> Iterator[Step]:
        """Read a network that is not in memory before the stage that wants it: the stage's seconds are its work's."""
        if self._networks.holds(part):
            return
        yield Step(STARTS[stage], f"Reading the weights of {PART_NAMES[part]}")
        began = time.perf_counter()
        self._networks.get(part)
        if self._where.type == "cuda":
            torch.cuda.synchronize(self._where)
        job.seconds["weights"] = job.seconds.get("weights", 0.0) + time.perf_counter() - began

    def _look(self, job: _Job) -> Generator[Step, None, Tensor]:
        """The picture's features (1, S, width), remembered by the picture.

        On ZeroGPU they are remembered in the forked process that made them, and lost with it after the job: there every
        job looks anew, which is a thousandth of its counted work.
        """
        key = hashlib.sha256(job.pixels.tobytes()).hexdigest()
        if key not in self._features:
            yield from self._bring(job, "conditioner", "features")
        with self._timed(job, "features"):
            if key not in self._features:
                with torch.no_grad():
                    features = self._networks.get("conditioner")(torch.from_numpy(job.pixels).to(self._where))
                self._features[key] = features.cpu()
                while len(self._features) > FEATURES_KEPT:
                    self._features.popitem(last=False)
            self._features.move_to_end(key)
            return self._features[key].to(self._where)

    def _diffuse(self, job: _Job, features: Tensor) -> Iterator[Step]:
        yield from self._bring(job, "model", "diffusion")
        yield Step(STARTS["diffusion"], "Starting the diffusion")
        with self._timed(job, "diffusion"):
            dit = self._networks.get("model")
            noise = draw_noise(job.seed, self.config.latent_shape)
            count = self.approximations.count_steps(job.quality.steps)
            job.facts["diffusion_steps"] = count
            began = time.perf_counter()
            latents = noise
            steps = sample(
                dit,
                features,
                steps=count,
                noise=noise,
                guidance=GUIDANCE,
                solver=self.approximations.solver,
                guidance_interval=self.approximations.guidance_interval,
                halves_in_turn=self._networks.residency.name != RESIDENT,
            )
            for event in _without_gradients(steps):
                if isinstance(event, Tensor):
                    latents = event
                    continue
                done, total = event
                left = (time.perf_counter() - began) / done * (total - done)
                message = f"Diffusion step {done} of {total}" + (f", about {_seconds(left)} left" if done > 1 else "")
                yield Step(_between("diffusion", "decoding", done / total), message)
            # As the latent is kept, so it is used: a mesh made from the recipe is the same mesh.
            job.latents = latents.to(torch.float16).float().cpu()
            # Now: the policy may change before the job ends.
            job.sampled_with, job.sampled_keys = self._sampling_names(), self._sampling_keys()

    def _mesh(self, job: _Job, geometry: GeoField) -> Iterator[Step | Mesh]:
        quality = job.quality
        with self._timed(job, "volume"):
            chunk = job.chunk = job.chunk or choose_chunk(self._where, geometry.bytes_per_point)
            decode = dense if self.volume == "dense" else hierarchical
            decoding = decode(geometry, quality.grid, device=self._where, chunk=chunk, half_extent=self.config.box)
            volume = None
            while volume is None:
                try:
                    done = next(decoding)
                    yield Step(_between("volume", "surface", done), f"Decoding the volume, {done:.0%}")
                except StopIteration as stop:
                    volume = stop.value
        yield Step(STARTS["surface"], "Drawing the surface")
        with self._timed(job, "surface"):
            cells = volume.surface_cells()
            evaluated = volume.evaluated
            del volume, decoding
            if not len(cells.position):
                raise OrfeasError(
                    "Hunyuan3D found no surface for this picture: try another seed, or another picture.", "no_surface"
                )
            surface = extract_surface(cells)
            del cells
            refined = quality.grid >= self.refine_from
            if refined:
                for done, better in _without_gradients(refine_surface(surface, geometry, chunk)):
                    yield Step(_between("surface", None, done), f"Sharpening the surface, {done:.0%}")
                    surface = better or surface
            mesh = Mesh(surface.vertices.cpu().numpy(), surface.faces.cpu().numpy().astype(np.int32))
        yield Step(1.0, "Shape made", self._facts(job, evaluated, refined))
        yield mesh

    def _facts(self, job: _Job, evaluated: int, refined: bool) -> dict[str, Any]:
        approximations = job.sampled_with + self.approximations.field_names()
        facts = {
            "engine_version": self._name_version(job.sampled_keys),
            "weights_identity": self._identity,
            "shape_seconds": {stage: round(seconds, 3) for stage, seconds in job.seconds.items()},
            "residency": self._networks.residency.name,
            "precision": str(self.dtype).removeprefix("torch."),
            "approximations": approximations,
            "grid": job.quality.grid,
            "field_evaluations": evaluated,
            "vertices_refined": refined,
            "latent": job.latents[0].to(torch.float16).numpy(),
            **job.facts,
        }
        if approximations:
            facts["approximation_note"] = (
                f"This shape was approximated for speed or memory: {', '.join(approximations)}."
            )
        if self._where.type == "cuda":
            facts["peak_vram_mb"] = round(torch.cuda.max_memory_reserved(self._where) / 1e6, 1)
        return facts

    @contextmanager
    def _timed(self, job: _Job, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        job.stage = stage
        yield
        if self._where.type == "cuda":
            torch.cuda.synchronize(self._where)
        job.seconds[stage] = time.perf_counter() - began

    def _memory_error(self) -> OutOfMemory:
        return OutOfMemory(
            f"{self.device} ran out of memory: choose a lower quality, close other programs that use it, or run the"
            " built-in engine with ORFEAS_ENGINE=sketch."
        )

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise EngineUnavailable("The Hunyuan3D engine was closed: start the program again.")
        if self._lost:
            raise EngineUnavailable(self._lost, "broken_gpu")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch, CUDA's libraries or the system say that memory ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _MEMORY_WORDS)


def is_gpu_lost(error: BaseException) -> bool:
    """Whether CUDA reports what this process does not recover from, such as an illegal access or a GPU that is gone."""
    kind = getattr(torch, "AcceleratorError", None)  # of torch 2.8 on
    return kind is not None and isinstance(error, kind) and not is_out_of_memory(error)


def _find_gpu(device: torch.device) -> None:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        raise EngineUnavailable(
            f"{device} was asked for, but the number of usable CUDA GPUs here is {count}: choose another with"
            " ORFEAS_DEVICE, or run the built-in engine with ORFEAS_ENGINE=sketch;"
            " `python -m orfeas doctor` says what was found."
        )


def _between(stage: str, following: str | None, done: float) -> float:
    end = STARTS[following] if following else 1.0
    return STARTS[stage] + (end - STARTS[stage]) * min(1.0, done)


def _without_gradients(events: Iterator) -> Iterator:
    """The same events, each made under `torch.no_grad`, which must not reach over a yield into what others do."""
    while True:
        with torch.no_grad():
            try:
                event = next(events)
            except StopIteration:
                return
        yield event


def _not_backwards(event: Step | Mesh, job: _Job) -> Step | Mesh:
    if isinstance(event, Step):
        job.fraction = max(job.fraction, (event.fraction - job.starts_at) / (1.0 - job.starts_at))
        return Step(job.fraction, event.message, event.facts)
    return event


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
