"""Steps along the flow: the schedule, exact short cuts, and how wrong the approximations are."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from orfeas.engines.hunyuan3d import sampler
from orfeas.engines.hunyuan3d.weights import build_meta, load_part
from tests.engines.hunyuan3d.tiny import WEIGHTS, tiny_config

ROOT = Path(__file__).parents[3]
needs_avx2 = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="torch draws others without"
)


@pytest.fixture(scope="module")
def network():
    return load_part(build_meta(tiny_config())["model"], WEIGHTS, "model")


@pytest.fixture(scope="module")
def context():
    return torch.randn(1, 17, 32, generator=torch.Generator().manual_seed(5))


def run(network, context, **options) -> torch.Tensor:
    options = {"steps": 6, "noise": sampler.draw_noise(3, (1, 24, 8))} | options
    *_, latents = sampler.sample(network, context, **options)
    return latents


def test_noise_is_drawn_on_the_cpu_and_rounded_as_half_precision_is():
    noise = sampler.draw_noise(42, (1, 4096, 64))
    assert noise.dtype == torch.float32
    assert torch.equal(noise, noise.half().float())
    assert torch.equal(noise, sampler.draw_noise(42, (1, 4096, 64)))
    assert not torch.equal(noise, sampler.draw_noise(43, (1, 4096, 64)))
    assert abs(float(noise.mean())) < 0.01
    assert abs(float(noise.std()) - 1) < 0.01


def hash_noise() -> str:
    """Of some seeds, in full precision; the last shape is no multiple of the block."""
    shapes = ((0, (1, 4096, 64)), (42, (1, 4096, 64)), (2**32 - 1, (1, 24, 8)), (7, (5, 7, 3)))
    drawn = [sampler.draw_noise(seed, shape, torch.float32) for seed, shape in shapes]
    return hashlib.sha256(b"".join(noise.numpy().tobytes() for noise in drawn)).hexdigest()


def test_noise_has_the_same_bits_with_every_torch_and_on_every_machine():
    expected = "2815f7cc7c87a4818da458034cbffd7ca35320ded3c1887ccda9cc23159cfa15"
    assert hash_noise() == expected
    code = f"from {__name__} import hash_noise; print(hash_noise())"
    for torchs, numpys in (("default", "AVX2 FMA3"), ("avx2", "")):
        instructions = {"ATEN_CPU_CAPABILITY": torchs, "NPY_DISABLE_CPU_FEATURES": numpys}
        answer = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],  # numpy warns of what it was built for
            env={**os.environ, **instructions},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        assert answer.stdout.strip() == expected, instructions


@needs_avx2
@pytest.mark.parametrize("shape", [(1, 4096, 64), (1, 24, 8), (16,), (17,), (31,), (5, 7, 3), (3, 5)])
def test_noise_is_torchs_where_there_is_avx2(shape):
    for seed in range(5):
        theirs = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(sampler.draw_noise(seed, shape, torch.float32), theirs)


@needs_avx2
@pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 13),
    reason="older torch draws half precision from another stream; ours is drawn in float32 and does not change",
)
def test_noise_is_the_public_pipelines():
    """That draws half precision from a generator of the CPU."""
    noise = sampler.draw_noise(42, (1, 4096, 64))
    theirs = torch.randn((1, 4096, 64), generator=torch.Generator().manual_seed(42), dtype=torch.float16)
    assert torch.equal(noise, theirs.float())


def test_noise_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    sampler.draw_noise(9, (2, 2))
    assert torch.equal(torch.rand(3), expected)


def test_schedule_has_both_ends_and_the_last_twice():
    assert sampler.flow_times(5).tolist() == [0, 0.25, 0.5, 0.75, 1, 1]
    with pytest.raises(ValueError, match="at least 2"):
        sampler.flow_times(1)


def test_steps_are_counted_and_the_last_is_not_taken(network, context):
    calls = []
    hook = network.register_forward_hook(lambda *_: calls.append(1))
    *progress, latents = sampler.sample(network, context, steps=5, noise=sampler.draw_noise(0, (1, 24, 8)))
    hook.remove()
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert len(calls) == 4
    assert latents.shape == (1, 24, 8)
    assert latents.dtype == torch.float32


def test_a_step_can_be_the_last_that_is_asked_for(network, context):
    calls = []
    hook = network.register_forward_hook(lambda *_: calls.append(1))
    steps = sampler.sample(network, context, steps=9, noise=sampler.draw_noise(0, (1, 24, 8)))
    assert [next(steps), next(steps)] == [(1, 8), (2, 8)]
    steps.close()
    hook.remove()
    assert len(calls) == 2


def test_without_guidance_half_the_batch_is_not_run(network, context):
    sizes = []
    hook = network.register_forward_hook(lambda _module, inputs, _output: sizes.append(len(inputs[0])))
    exact = run(network, context, guidance=1.0)
    assert set(sizes) == {1}
    nearly = run(network, context, guidance=1.0 + 1e-6)
    assert set(sizes[len(sizes) // 2 :]) == {2}
    hook.remove()
    torch.testing.assert_close(exact, nearly, rtol=1e-4, atol=1e-4)


def test_halves_in_turn_are_the_same(network, context):
    torch.testing.assert_close(run(network, context, halves_in_turn=True), run(network, context), rtol=1e-5, atol=1e-4)


def test_guidance_over_the_whole_interval_is_exact_and_in_a_part_it_is_not(network, context):
    exact = run(network, context)
    assert torch.equal(run(network, context, guidance_interval=(0.0, 1.0)), exact)
    assert torch.equal(run(network, context, guidance_interval=(2.0, 3.0)), run(network, context, guidance=1.0))
    sizes = []
    hook = network.register_forward_hook(lambda _module, inputs, _output: sizes.append(len(inputs[0])))
    middle = run(network, context, guidance_interval=(0.3, 0.7))
    hook.remove()
    assert sizes == [1, 1, 2, 2, 1]  # at 0, 0.2, 0.4, 0.6, 0.8
    assert (middle - exact).abs().max() > 0.01


def flow(x, t, _context):
    """dx/dt = (x - 1) cos 3t, whose end is known."""
    return (x - 1) * torch.cos(3 * t)[:, None, None]


def end_of_flow(solver: str, steps: int) -> float:
    x = torch.full((1, 2, 1), 3.0)
    *_, last = sampler.integrate(flow, SimpleNamespace(), x, sampler.flow_times(steps), guidance=1.0, solver=solver)
    return float(last[0, 0, 0])


def test_orders_of_the_solvers():
    import math

    exact = 1 + 2 * math.exp(math.sin(3) / 3)
    for solver, order in (("euler", 1), ("adams-bashforth", 2)):
        coarse, fine = (abs(end_of_flow(solver, steps + 1) - exact) for steps in (20, 80))
        assert coarse / fine == pytest.approx(4**order, rel=0.25), solver
    assert abs(end_of_flow("adams-bashforth", 20) - exact) < abs(end_of_flow("euler", 50) - exact)


def test_unknown_solver_is_a_mistake(network, context):
    with pytest.raises(ValueError, match="euler, adams-bashforth"):
        run(network, context, solver="heun")


def test_state_stays_in_float32_whatever_the_weights(context):
    half = load_part(build_meta(tiny_config())["model"], WEIGHTS, "model", dtype=torch.bfloat16)
    latents = run(half, context)
    assert latents.dtype == torch.float32
    assert not torch.equal(latents, latents.bfloat16().float())
