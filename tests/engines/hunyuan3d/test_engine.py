"""The whole engine on the CPU, with the fixture's tiny model bent so that its field is a blob (see `blob`)."""

import functools
import gc
import weakref

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from orfeas.engines import Step
from orfeas.engines.hunyuan3d import engine as room
from orfeas.engines.hunyuan3d.approximations import EXPERTS_IN_8_BIT, Approximations
from orfeas.engines.hunyuan3d.checkpoint import PARTS, open_checkpoint
from orfeas.engines.hunyuan3d.engine import Hunyuan3DEngine, is_out_of_memory
from orfeas.engines.hunyuan3d.moe import MixtureOfExperts, StackedLinear
from orfeas.engines.hunyuan3d.residency import (
    INT8,
    POLICIES,
    RELEASED_GB,
    RESIDENT,
    SEQUENTIAL,
    Int8Linear,
    Int8StackedLinear,
    Networks,
    Residency,
    choose_residency,
    keep_off_system_memory,
    model_gigabytes,
    quantize_rows,
    widen,
)
from orfeas.engines.hunyuan3d.weights import convert, identify
from orfeas.errors import BadRequest, BadWeights, EngineUnavailable, OrfeasError, OutOfMemory
from orfeas.mesh import Mesh, signed_volume
from orfeas.request import Quality
from tests.engines.hunyuan3d.blob import write_blob_weights
from tests.engines.hunyuan3d.tiny import WEIGHTS, tiny_config

QUALITY = Quality(grid=20, steps=4, faces=1000)


class Subject:
    def __init__(self, shade=0):
        rows, columns = np.mgrid[:60, :50]
        inside = ((columns - 25) / 18) ** 2 + ((rows - 30) / 24) ** 2 < 1
        self.rgba = np.dstack([rows * 4, columns * 4, rows * 0 + shade, inside * 255]).astype(np.uint8)


@pytest.fixture(scope="module")
def blob_weights(tmp_path_factory):
    return write_blob_weights(tmp_path_factory.mktemp("blob"))


@pytest.fixture(scope="module")
def exact_version(blob_weights):
    return f"hunyuan3d-2.1-1-float32-{identify(open_checkpoint(blob_weights))}"


@pytest.fixture(scope="module")
def make_engine(blob_weights):
    return lambda **options: Hunyuan3DEngine(blob_weights, config=tiny_config(), device="cpu", **options)


@pytest.fixture(scope="module")
def engine(make_engine):
    engine = make_engine()
    engine.load()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def events(engine):
    return list(engine.shape(Subject(), QUALITY, seed=1))


def test_steps_then_one_mesh(events):
    *steps, mesh = events
    assert all(isinstance(step, Step) for step in steps)
    assert isinstance(mesh, Mesh)
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert fractions[0] >= 0
    assert fractions[-1] == 1.0
    messages = [step.message for step in steps]
    diffusion = [message for message in messages if message.startswith("Diffusion")]
    assert [message.split(",")[0] for message in diffusion] == [f"Diffusion step {k} of 3" for k in (1, 2, 3)]
    assert all("left" in message for message in diffusion[1:])
    assert any(message.startswith("Decoding the volume") for message in messages)


def test_mesh_is_closed_and_outward(events):
    mesh = events[-1]
    assert mesh.vertices.dtype == np.float64
    assert mesh.faces.dtype == np.int32
    edges = np.sort(np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]]), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    assert signed_volume(mesh.vertices, mesh.faces) > 0


def test_facts_are_for_the_recipe(events):
    facts = dict(events[-2].facts)
    latent = facts.pop("latent")
    assert latent.shape == (24, 8)
    assert latent.dtype == np.float16
    import json

    json.dumps(facts)
    assert set(facts["shape_seconds"]) == {"features", "diffusion", "decoding", "volume", "surface"}
    assert facts["residency"] == RESIDENT
    assert facts["precision"] == "float32"
    assert facts["field_evaluations"] == 21**3
    assert facts["approximations"] == []
    assert not facts["vertices_refined"]


def test_the_same_request_gives_the_same_mesh_and_another_seed_another(engine, events):
    again = list(engine.shape(Subject(), QUALITY, seed=1))[-1]
    assert np.array_equal(again.vertices, events[-1].vertices)
    assert np.array_equal(again.faces, events[-1].faces)
    other = list(engine.shape(Subject(), QUALITY, seed=2))[-1]
    assert not np.array_equal(other.vertices, events[-1].vertices)


def test_features_are_made_once_a_picture(engine, monkeypatch):
    looked = []
    engine.load()
    conditioner = engine._networks.get("conditioner")
    monkeypatch.setattr(conditioner, "forward", lambda x, forward=conditioner.forward: looked.append(1) or forward(x))
    for shade, seed in ((77, 1), (77, 2), (99, 1), (77, 3)):
        running = engine.shape(Subject(shade), QUALITY, seed)
        next(step for step in running if step.message.startswith("Diffusion"))
        running.close()
    assert len(looked) == 2


def test_another_picture_gives_another_mesh(engine, events):
    other = list(engine.shape(Subject(200), QUALITY, seed=1))[-1]
    assert not np.array_equal(other.vertices, events[-1].vertices)


def test_closing_stops_at_the_next_step_and_the_next_job_works(engine, events, monkeypatch):
    calls = []
    dit = engine._networks.get("model")
    monkeypatch.setattr(dit, "forward", lambda *a, forward=dit.forward: calls.append(1) or forward(*a))
    running = engine.shape(Subject(), Quality(grid=20, steps=50, faces=1000), seed=1)
    for step in running:
        if step.message.startswith("Diffusion step 2"):
            break
    running.close()
    assert len(calls) == 2
    assert np.array_equal(list(engine.shape(Subject(), QUALITY, seed=1))[-1].vertices, events[-1].vertices)


def test_a_kept_latent_is_meshed_again_without_diffusion(engine, events, monkeypatch):
    latent = events[-2].facts["latent"]
    monkeypatch.setattr(room, "sample", lambda *a, **k: pytest.fail("no diffusion is needed"))
    same = list(engine.remesh(latent, QUALITY))
    assert np.array_equal(same[-1].vertices, events[-1].vertices)
    finer = list(engine.remesh(latent, Quality(grid=28, steps=4, faces=1000)))
    assert finer[-2].facts["field_evaluations"] == 29**3
    assert len(finer[-1].faces) > len(events[-1].faces)
    assert np.array_equal(finer[-2].facts["latent"], latent)
    for wrong in (latent[:5], latent.astype(int), np.full_like(latent, np.nan)):
        with pytest.raises(BadRequest, match="latent"):
            list(engine.remesh(wrong, QUALITY))


def test_vertices_are_moved_onto_the_field_from_a_grid_on(make_engine, events):
    engine = make_engine(refine_from=20)
    refined = list(engine.shape(Subject(), QUALITY, seed=1))
    assert refined[-2].facts["vertices_refined"]
    assert any(event.message.startswith("Sharpening") for event in refined[:-1])
    assert np.array_equal(refined[-1].faces, events[-1].faces)
    vae = engine._networks.get("vae")
    latents = torch.from_numpy(refined[-2].facts["latent"].astype(np.float32))[None]
    field = room.GeoField(vae.geo_decoder, vae.latent_decoder(latents))

    def error(mesh):
        return field(torch.from_numpy(mesh.vertices).float()).abs().median()

    assert error(refined[-1]) < error(events[-1]) / 10


def test_a_field_asked_at_every_sample_gives_the_same_mesh(make_engine, monkeypatch):
    monkeypatch.setattr(room, "hierarchical", functools.partial(room.hierarchical, coarsest=10))  # three levels
    quality = Quality(grid=40, steps=4, faces=1000)
    *_, last, near = make_engine().shape(Subject(), quality, seed=1)
    assert last.facts["field_evaluations"] < 41**3
    *_, last, everywhere = make_engine(volume="dense").remesh(last.facts["latent"], quality)
    assert last.facts["field_evaluations"] == 41**3
    assert np.array_equal(near.faces, everywhere.faces)
    np.testing.assert_allclose(near.vertices, everywhere.vertices, atol=1e-5)
    with pytest.raises(BadRequest, match="use hierarchical or dense"):
        make_engine(volume="sparse")


def test_no_surface_is_a_sentence(engine, monkeypatch):
    monkeypatch.setattr(room, "GeoField", _Empty)
    with pytest.raises(OrfeasError, match="try another seed") as caught:
        list(engine.shape(Subject(), QUALITY, seed=1))
    assert caught.value.code == "no_surface"


class _Empty(room.GeoField):
    def __call__(self, points):
        return super().__call__(points) - 1e6


def test_approximations_change_the_result_a_little_and_are_named(make_engine):
    quality = Quality(grid=20, steps=30, faces=1000)
    engine = make_engine(approximations=Approximations.parse("solver, guidance, latents"))
    done = list(engine.shape(Subject(), quality, seed=1))
    exact = list(make_engine().shape(Subject(), quality, seed=1))[-2].facts["latent"].astype(float)
    facts = done[-2].facts
    assert facts["approximations"] == [
        "the adams-bashforth solver at 60% of the steps (1.6 to 4.3 % off, measured with random weights only)",
        "guidance only from time 0.1 to 0.8 (16 to 34 % off, measured with random weights only)",
        "a third of the latents for each point (1.6 to 15 % off, measured with random weights only)",
    ]
    assert any("step 17 of 17" in event.message for event in done[:-1])  # 18 steps, the last of length 0
    assert "adams-bashforth" in engine.caveat
    deviation = np.linalg.norm(facts["latent"] - exact) / np.linalg.norm(exact)
    assert 0 < deviation < 0.5
    assert make_engine().caveat == ""
    assert Approximations.parse("") == Approximations()
    with pytest.raises(BadRequest, match="use solver, guidance or latents"):
        Approximations.parse("speed")
    with pytest.raises(BadRequest):
        Approximations(solver="heun")
    with pytest.raises(BadRequest):
        Approximations(guidance_interval=(0.9, 0.1))


def test_closed_engine_refuses_and_missing_weights_are_a_sentence(make_engine, tmp_path):
    engine = make_engine()
    engine.load()
    engine.close()
    with pytest.raises(EngineUnavailable):
        list(engine.shape(Subject(), QUALITY, seed=1))
    with pytest.raises(BadWeights, match="cannot be read"):
        Hunyuan3DEngine(tmp_path / "none.safetensors", config=tiny_config(), device="cpu").load()
    with pytest.raises(BadWeights, match="does not fit"):
        Hunyuan3DEngine(WEIGHTS, device="cpu", residency=SEQUENTIAL).load()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_gpu_that_is_not_there_is_a_sentence():
    with pytest.raises(EngineUnavailable, match="cuda:0 was asked for"):
        Hunyuan3DEngine(WEIGHTS, config=tiny_config()).load()


# --- memory -----------------------------------------------------------------------------------------------------------


def test_policy_follows_free_memory():
    assert choose_residency(24.0).name == RESIDENT
    assert choose_residency(10.5).name == RESIDENT
    assert choose_residency(10.4).name == SEQUENTIAL
    assert choose_residency(7.4).name == SEQUENTIAL
    assert choose_residency(7.3).name == INT8
    assert choose_residency(5.5).name == INT8
    assert "7.3 GB" in choose_residency(7.3).reason
    with pytest.raises(EngineUnavailable, match=r"5\.5 GB.*5\.4 GB"):
        choose_residency(5.4)
    assert choose_residency(20.0, 2 * RELEASED_GB).name == SEQUENTIAL  # float32 takes twice as much


@pytest.mark.parametrize(("card_gib", "policy"), [(12, RESIDENT), (8, SEQUENTIAL), (6, INT8)])
def test_cards_get_the_policy_meant_for_them(card_gib, policy):
    """A card's size is in GiB, of which the driver and a desktop take about half a gigabyte."""
    assert choose_residency(card_gib * 2**30 / 1e9 - 0.6).name == policy


def test_released_model_has_the_size_that_the_policies_assume():
    assert model_gigabytes(room.RELEASED, torch.float16) == pytest.approx(RELEASED_GB, abs=0.01)


def test_sequential_and_resident_give_the_same_mesh_with_one_network_at_a_time(make_engine, events):
    engine = make_engine(residency=SEQUENTIAL)
    most = 0
    for event in engine.shape(Subject(), QUALITY, seed=1):
        most = max(most, len(engine._networks._here))
        mesh = event
    assert most == 1
    assert np.array_equal(mesh.faces, events[-1].faces)
    np.testing.assert_allclose(mesh.vertices, events[-1].vertices, atol=1e-5)  # the halves of a step run in turn


def test_networks_that_are_read_in_a_job_have_seconds_and_steps_of_their_own(make_engine, events):
    assert "weights" not in events[-2].facts["shape_seconds"]  # all were there
    engine = make_engine(residency=SEQUENTIAL)
    done = list(engine.shape(Subject(), QUALITY, seed=1))
    read = [event.message for event in done[:-1] if event.message.startswith("Reading the weights of ")]
    assert [message.removeprefix("Reading the weights of ") for message in read] == [
        "the picture's encoder",
        "the transformer",
        "the decoder",
    ]
    seconds = done[-2].facts["shape_seconds"]
    assert seconds["weights"] > 0
    assert set(seconds) == {"weights", "features", "diffusion", "decoding", "volume", "surface"}
    fractions = [event.fraction for event in done[:-1]]
    assert fractions == sorted(fractions)
    again = list(engine.shape(Subject(), QUALITY, seed=2))  # the picture is remembered
    assert sum(event.message.startswith("Reading") for event in again[:-1]) == 2
    for event in (running := engine.shape(Subject(9), QUALITY, seed=1)):
        if event.message == "Reading the weights of the transformer":
            break
    running.close()
    assert set(engine._networks._here) == {"conditioner"}  # it was not read any more


def test_a_network_that_was_let_go_is_dead_before_the_next_is_read(make_engine, monkeypatch):
    made = []

    def bring(self, part, original=Networks._bring):
        assert not any(network() for network in made)
        module = original(self, part)
        made.append(weakref.ref(module))
        return module

    monkeypatch.setattr(Networks, "_bring", bring)
    engine = make_engine(residency=SEQUENTIAL, refine_from=QUALITY.grid)
    gc.collect()
    gc.disable()  # a card with room for one network cannot wait for the collector
    try:
        list(engine.shape(Subject(), QUALITY, seed=1))
        list(engine.shape(Subject(), QUALITY, seed=2))
    finally:
        gc.enable()
    assert len(made) == 5


def test_the_log_says_which_policy_was_chosen_and_why_and_each_step_down(make_engine, monkeypatch, caplog):
    caplog.set_level("INFO")
    engine = make_engine()
    engine.load()
    reason = engine._networks.residency.reason
    assert reason.endswith(" enough, so all networks stay in memory.")
    assert caplog.messages == [f"weights_placed reason={reason}"]
    caplog.clear()
    _break(monkeypatch, "diffusion", _FailOnce(torch.OutOfMemoryError("CUDA out of memory")))
    list(engine.shape(Subject(), QUALITY, seed=1))
    assert caplog.messages == [
        "stepped_down reason=Memory ran out with 'resident', so one network at a time is in memory."
    ]


def test_int8_rows_are_within_half_a_step():
    weight = torch.randn(3, 40, 64, generator=torch.Generator().manual_seed(0))
    quantized, scale = quantize_rows(weight)
    assert quantized.dtype == torch.int8
    assert quantized.abs().amax(-1).eq(127).all()
    assert ((quantized * scale - weight).abs() <= scale / 2 * 1.0001).all()
    rows = torch.randn(200, 64)
    exact = rows @ weight[1].T + 0.5
    for layer, arguments in (
        (Int8Linear(quantized[1], scale[1], torch.full((40,), 0.5)), ()),
        (Int8StackedLinear(quantized, scale, torch.full((3, 40), 0.5)), (1,)),
    ):
        error = (layer(rows, *arguments) - exact).pow(2).mean().sqrt() / exact.std()
        assert 1e-4 < error < 0.01
    zero, scale = quantize_rows(torch.zeros(2, 4))
    assert torch.equal(zero * scale, torch.zeros(2, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_int8_is_widened_at_once_to_the_same_bits(dtype):
    quantized, scale = quantize_rows(torch.randn(300, 64, generator=torch.Generator().manual_seed(4)))
    with _Allocations() as allocations:
        wide = widen(quantized, scale, dtype)
    assert torch.equal(wide, (quantized * scale).to(dtype))
    assert allocations.made == [dtype]


class _Allocations(TorchDispatchMode):
    """The types of the tensors that operations return, each once."""

    def __enter__(self):
        self.made, self.seen = [], set()
        return super().__enter__()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if result.data_ptr() not in self.seen:
            self.seen.add(result.data_ptr())
            self.made.append(result.dtype)
        return result


def test_int8_experts_stay_close(make_engine, events):
    config = tiny_config()
    full, small = (
        Networks(WEIGHTS, config, torch.device("cpu"), torch.float32, Residency(name, "")).get("model")
        for name in (SEQUENTIAL, INT8)
    )
    assert not any(isinstance(module, StackedLinear) for module in small.modules())
    mixtures = [module for module in small.modules() if isinstance(module, MixtureOfExperts)]
    assert len(mixtures) == config.dit.moe_layers
    assert all(isinstance(m.shared_fc1, Int8Linear) and isinstance(m.experts.up, Int8StackedLinear) for m in mixtures)
    x = torch.randn(1, 24, 8, generator=torch.Generator().manual_seed(1))
    context = torch.randn(1, 17, 32, generator=torch.Generator().manual_seed(2))
    exact, close = (dit(x, torch.tensor([0.3]), dit.prepare_context(context)) for dit in (full, small))
    deviation = (close - exact).pow(2).mean().sqrt() / exact.std()
    # Published layers have 2048 and 8192 inputs, over which rounding averages out; here there are 64.
    assert 0 < deviation < 0.05

    engine = make_engine(residency=INT8)
    assert isinstance(list(engine.shape(Subject(), QUALITY, seed=1))[-1], Mesh)
    assert engine.version.endswith("int8")
    assert "8 bit" in engine.caveat
    assert engine.health()["approximations"] == [EXPERTS_IN_8_BIT]
    assert EXPERTS_IN_8_BIT.endswith("(0.3 to 3.9 % off, measured with random weights only)")


def test_approximations_of_a_result_are_those_it_was_made_with(make_engine, exact_version):
    engine = make_engine(residency=INT8, approximations=Approximations.parse("solver, latents"))
    sampled = list(engine.shape(Subject(), QUALITY, seed=1))[-2].facts
    solver = "the adams-bashforth solver at 60% of the steps (1.6 to 4.3 % off, measured with random weights only)"
    field = "a third of the latents for each point (1.6 to 15 % off, measured with random weights only)"
    assert sampled["approximations"] == [solver, EXPERTS_IN_8_BIT, field]
    assert sampled["engine_version"] == engine.version == f"{exact_version}-int8-solver-latents"
    assert sampled["approximation_note"] == (
        f"This shape was approximated for speed or memory: {solver}, {EXPERTS_IN_8_BIT}, {field}."
    )
    # How the latent came to be is the recipe's to know, not this engine's.
    again = list(engine.remesh(sampled["latent"], QUALITY))[-2].facts
    assert again["approximations"] == [field]
    assert again["engine_version"] == f"{exact_version}-latents"
    assert again["approximation_note"] == f"This shape was approximated for speed or memory: {field}."


def test_memory_that_runs_out_after_the_diffusion_makes_no_approximation_of_it(make_engine, monkeypatch, exact_version):
    engine = make_engine(residency=SEQUENTIAL)
    _break(monkeypatch, "GeoField", _FailOnce(torch.OutOfMemoryError("CUDA out of memory")))
    facts = list(engine.shape(Subject(), QUALITY, seed=1))[-2].facts
    assert facts["residency"] == INT8
    assert engine.version.endswith("int8")  # of the transformer, were it asked for now
    assert facts["engine_version"] == exact_version
    assert facts["approximations"] == []
    assert "approximation_note" not in facts


def test_out_of_memory_steps_down_once_and_goes_on(make_engine, monkeypatch):
    engine = make_engine(residency=RESIDENT)
    _break(monkeypatch, "diffusion", _FailOnce(torch.OutOfMemoryError("CUDA out of memory")))
    events = list(engine.shape(Subject(), QUALITY, seed=1))
    assert isinstance(events[-1], Mesh)
    assert events[-2].facts["residency"] == SEQUENTIAL
    assert "ran out" in events[-2].facts["memory_note"]
    assert any("ran out" in event.message for event in events[:-1])
    fractions = [event.fraction for event in events[:-1]]
    assert fractions == sorted(fractions)
    again = list(engine.shape(Subject(), QUALITY, seed=1))[-2].facts
    assert again["residency"] == RESIDENT  # what was forced on one job does not stay
    assert "memory_note" not in again


@pytest.mark.parametrize("when", ["decode", "extract_surface", "refine_surface"])
def test_out_of_memory_in_the_field_halves_its_pieces_and_keeps_the_policy(make_engine, monkeypatch, when):
    engine = make_engine(residency=RESIDENT, refine_from=20)
    engine.load()
    expected = list(engine.shape(Subject(), QUALITY, seed=1))[-1]
    chunks, networks = [], []
    fail = _FailOnce(torch.OutOfMemoryError("CUDA out of memory"))
    original = room.hierarchical

    def decode(*arguments, chunk, **options):
        chunks.append(chunk)
        networks.append(set(engine._networks._here))
        if when == "decode":
            fail()
        return original(*arguments, chunk=chunk, **options)

    monkeypatch.setattr(room, "hierarchical", decode)
    if when != "decode":
        _break(monkeypatch, when, fail)
    events = list(engine.shape(Subject(), QUALITY, seed=1))
    assert chunks == [chunks[0], chunks[0] // 2]
    assert networks == [{"conditioner", "model", "vae"}, {"vae"}]
    assert np.array_equal(events[-1].vertices, expected.vertices)
    assert events[-2].facts["residency"] == RESIDENT
    assert "half the size" in events[-2].facts["memory_note"]
    starts = [event.message for event in events[:-1] if event.message.startswith("Diffusion step 1")]
    assert len(starts) == 1  # what was done before is not done again
    fractions = [event.fraction for event in events[:-1]]
    assert fractions == sorted(fractions)


@pytest.mark.parametrize("when", ["diffusion", "volume"])
def test_out_of_memory_twice_is_told_and_leaves_no_approximation(make_engine, monkeypatch, events, when):
    engine = make_engine(residency=RESIDENT)
    fail = _FailOnce(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), times=2)
    _break(monkeypatch, when, fail)
    with pytest.raises(OutOfMemory, match="lower quality"):
        list(engine.shape(Subject(), QUALITY, seed=1))
    assert engine.health()["residency"] == (SEQUENTIAL if when == "diffusion" else RESIDENT)
    assert not engine._networks._here
    again = list(engine.shape(Subject(), QUALITY, seed=1))
    assert again[-2].facts["residency"] == RESIDENT
    assert np.array_equal(again[-1].vertices, events[-1].vertices)


def test_after_a_forced_step_the_policy_follows_free_memory_again(make_engine, monkeypatch):
    engine = make_engine()
    assert list(engine.shape(Subject(), QUALITY, seed=1))[-2].facts["residency"] == RESIDENT
    _break(monkeypatch, "diffusion", _FailOnce(torch.OutOfMemoryError("CUDA out of memory")))
    assert list(engine.shape(Subject(), QUALITY, seed=1))[-2].facts["residency"] == SEQUENTIAL
    tight = POLICIES[INT8][0] * model_gigabytes(tiny_config(), torch.float32) / RELEASED_GB
    monkeypatch.setattr(room, "free_gigabytes", lambda device: tight * 1.01)
    assert list(engine.shape(Subject(), QUALITY, seed=1))[-2].facts["residency"] == INT8
    monkeypatch.setattr(room, "free_gigabytes", lambda device: 100.0)  # chosen, not forced: it stays
    assert list(engine.shape(Subject(), QUALITY, seed=1))[-2].facts["residency"] == INT8


def test_a_gpu_that_failed_is_told_and_not_asked_again(make_engine, monkeypatch):
    engine = make_engine()
    engine.load()
    assert engine.health()["ready"] is True
    error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nSearch for more")
    _break(monkeypatch, "diffusion", _FailOnce(error))
    for _ in range(2):
        with pytest.raises(
            EngineUnavailable, match=r"illegal memory access was encountered\): start the program again"
        ):
            list(engine.shape(Subject(), QUALITY, seed=1))
    health = engine.health()
    assert health["ready"] is False
    assert health["problem"].startswith("cpu failed at work")
    monkeypatch.setattr("orfeas.engines.hunyuan3d.residency.release_memory", _FailOnce(error))
    engine.close()  # CUDA is asked for nothing any more
    assert is_out_of_memory(torch.AcceleratorError("CUDA error: out of memory"))


def test_what_fails_while_tidying_up_does_not_hide_the_first_error(make_engine, monkeypatch):
    lost = torch.AcceleratorError("CUDA error: unspecified launch failure\nSearch for more")
    engine = make_engine()
    engine.load()
    monkeypatch.setattr(room, "release_memory", lambda device: _FailOnce(lost)())
    _break(monkeypatch, "diffusion", _FailOnce(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        list(engine.shape(Subject(), QUALITY, seed=1))
    assert engine.health()["ready"] is False
    with pytest.raises(EngineUnavailable, match=r"unspecified launch failure\): start the program again"):
        list(engine.shape(Subject(), QUALITY, seed=1))


def test_a_gpu_that_fails_while_room_is_made_is_told_and_not_asked_again(make_engine, monkeypatch):
    engine = make_engine(residency=RESIDENT)
    engine.load()
    _break(monkeypatch, "diffusion", _FailOnce(torch.OutOfMemoryError("CUDA out of memory")))
    lost = torch.AcceleratorError("CUDA error: unspecified launch failure\nSearch for more")
    monkeypatch.setattr("orfeas.engines.hunyuan3d.residency.release_memory", lambda device: _FailOnce(lost)())
    for _ in range(2):
        with pytest.raises(EngineUnavailable, match=r"unspecified launch failure\): start the program again"):
            list(engine.shape(Subject(), QUALITY, seed=1))


def test_nothing_is_kept_for_gradients(make_engine, events):
    """Whatever the parameters are marked as: on ZeroGPU the mark was seen to be lost."""
    engine = make_engine(refine_from=QUALITY.grid)
    engine.load()
    marked = [module for part in PARTS for module in engine._networks.get(part).modules()]
    assert not any(parameter.requires_grad for module in marked for parameter in module.parameters())
    for module in marked:
        module.requires_grad_(True)
    *_, last, mesh = engine.shape(Subject(), QUALITY, seed=1)  # what has a gradient is no array
    assert last.facts["vertices_refined"]
    assert len(mesh.faces) == len(events[-1].faces)


def test_on_windows_the_machines_memory_is_not_taken_for_the_gpus(monkeypatch):
    kept = []
    answers = {"mem_get_info": (6e9, 8e9), "memory_reserved": 1e9, "memory_allocated": 5e8}
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, answer=answer: answer)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, device: kept.append(share))
    for platform in ("linux", "win32"):
        monkeypatch.setattr("orfeas.engines.hunyuan3d.residency.sys.platform", platform)
        keep_off_system_memory(torch.device("cuda:0"))
    assert kept == [pytest.approx(7 / 8)], "what is free, and what is ours already"


def test_approximated_results_are_not_taken_for_exact_ones(make_engine, exact_version):
    exact, other = make_engine(), make_engine(approximations=Approximations.parse("latents,solver"))
    assert exact.version == exact_version
    assert other.version == f"{exact_version}-solver-latents"


def test_results_of_other_weights_are_told_apart_before_they_are_loaded(make_engine, tmp_path):
    one = make_engine()
    other = Hunyuan3DEngine(WEIGHTS, config=tiny_config(), device="cpu")
    assert one.version != other.version
    tensors = load_file(one.weights)
    parts = {part: {} for part in PARTS}
    for key, tensor in tensors.items():
        part, _, rest = key.partition(".")
        parts[part][rest] = tensor
    torch.save(parts, tmp_path / "same.ckpt")
    convert(tmp_path / "same.ckpt", tmp_path / "converted.safetensors", tiny_config())
    for same in ("same.ckpt", "converted.safetensors"):
        assert Hunyuan3DEngine(tmp_path / same, config=tiny_config(), device="cpu").version == one.version
    missing = Hunyuan3DEngine(tmp_path / "none.ckpt", config=tiny_config(), device="cpu")
    assert missing.version == missing.health()["version"] == "hunyuan3d-2.1-1-float32"


def test_other_errors_are_not_taken_for_memory(make_engine, monkeypatch):
    engine = make_engine()
    _break(monkeypatch, "diffusion", _FailOnce(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        list(engine.shape(Subject(), QUALITY, seed=1))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"))


class _FailOnce:
    def __init__(self, error, times=1):
        self.error, self.left = error, times

    def __call__(self):
        if self.left:
            self.left -= 1
            raise self.error


def _break(monkeypatch, when, fail):
    name = {"diffusion": "draw_noise", "volume": "choose_chunk"}.get(when, when)
    original = getattr(room, name)

    def broken(*arguments, **options):
        fail()
        return original(*arguments, **options)

    monkeypatch.setattr(room, name, broken)
