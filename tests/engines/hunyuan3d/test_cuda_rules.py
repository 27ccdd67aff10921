"""Everything that a job runs on a GPU, under CUDA's rules on the CPU (see `cuda_rules`)."""

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from orfeas.engines.hunyuan3d import moe, sampler
from orfeas.engines.hunyuan3d.residency import INT8, RESIDENT, Networks, Residency
from orfeas.engines.hunyuan3d.surface import extract_surface, refine_surface
from orfeas.engines.hunyuan3d.top_latents import TopLatentsField
from orfeas.engines.hunyuan3d.vae import GeoField
from orfeas.engines.hunyuan3d.volume import hierarchical
from tests.engines.hunyuan3d.blob import write_blob_weights
from tests.engines.hunyuan3d.cuda_rules import DEVICE, CudaRules, OnDevice, put
from tests.engines.hunyuan3d.fields import drain
from tests.engines.hunyuan3d.tiny import tiny_config


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_blob_weights(tmp_path_factory.mktemp("blob"))


def test_the_rules_refuse_what_cuda_refuses():
    host = torch.arange(6).view(2, 3)
    with CudaRules():
        there = host.to(DEVICE)
        assert there.device == DEVICE
        assert host.device.type == "cpu"
        assert there.topk(2).values.device == there.split(1)[0].device == torch.zeros(3, device="cuda:77").device
        assert ((there + 1) * torch.tensor(2)).tolist() == [[2, 4, 6], [8, 10, 12]]
        assert there.cpu().numpy().sum() == 15
        for refused in (lambda: there @ there.T, lambda: torch.mv(there, there[0]), lambda: there.mm(there.T)):
            with pytest.raises(RuntimeError, match="not implemented on CUDA"):
                refused()
        for refused in (lambda: there + host, lambda: there[host[0].clamp(max=1)], lambda: torch.cat((there, host))):
            with pytest.raises(RuntimeError, match="two devices"):
                refused()
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        there.copy_(host * 2)
        torch.testing.assert_close((there.double() @ there.T.double()).cpu(), (4 * host @ host.T).double())


def make(weights, device, policy, top_latents):
    """(latents, mesh) of two guided steps and a grid of three levels, every network among it."""
    config = tiny_config()
    move = put if device is DEVICE else lambda module: module
    networks = Networks(weights, config, torch.device("cpu"), torch.float32, Residency(policy, ""))
    size = config.image_size
    pixels = torch.rand((1, 3, size, size), generator=torch.Generator().manual_seed(3)) * 2 - 1
    with torch.no_grad():
        features = move(networks.get("conditioner"))(pixels.to(device))
        noise = sampler.draw_noise(4, config.latent_shape)
        dit = move(networks.get("model"))
        *_, latents = sampler.sample(dit, features, steps=3, noise=noise, halves_in_turn=policy != RESIDENT)
        vae = move(networks.get("vae"))
        decoded = vae.latent_decoder(latents)
        field = GeoField(vae.geo_decoder, decoded)
        if top_latents:
            field = TopLatentsField(vae.geo_decoder, decoded, 8, config.box)
        _, volume = drain(hierarchical(field, 32, device=device, chunk=2000, half_extent=config.box, coarsest=8))
        surface = extract_surface(volume.surface_cells())
        *_, (_, surface) = refine_surface(surface, field, 500)
    return latents, surface


@pytest.mark.parametrize(("policy", "top_latents"), [(RESIDENT, False), (INT8, True)])
def test_a_job_keeps_to_the_rules_and_its_result_is_the_same(weights, policy, top_latents):
    expected_latents, expected = make(weights, torch.device("cpu"), policy, top_latents)
    with CudaRules():
        latents, surface = make(weights, DEVICE, policy, top_latents)
        assert latents.device == surface.vertices.device == DEVICE
        assert all(type(tensor) is OnDevice for tensor in (latents, surface.vertices, surface.faces))
        latents, vertices, faces = latents.cpu(), surface.vertices.cpu(), surface.faces.cpu()
    assert len(faces) > 500
    assert torch.equal(latents, expected_latents)
    assert torch.equal(vertices, expected.vertices)
    assert torch.equal(faces, expected.faces)


@pytest.mark.parametrize("policy", [RESIDENT, INT8])
def test_the_host_learns_nothing_in_a_step_but_where_the_experts_slices_end(weights, policy, monkeypatch):
    """Tensors without values run the steps: whatever needs a value on the host, or gives a shape that depends on one,
    raises. Once an evaluation and layer the ends of the slices are read, and before that the shared expert is asked.
    """
    config = tiny_config()
    dit = Networks(weights, config, torch.device("cpu"), torch.float32, Residency(policy, "")).get("model")
    asked = []
    rows = (1 if policy == INT8 else 2) * (config.vae.tokens + 1) * config.dit.experts_per_token

    class Read(moe.HostCopy):
        def __init__(self, values):
            asked.append("copy")
            self.length = len(values)

        def wait(self):
            asked.append("wait")
            return [rows * (expert + 1) // self.length for expert in range(self.length)]

    monkeypatch.setattr(moe, "HostCopy", Read)
    share = moe.MixtureOfExperts.share
    monkeypatch.setattr(moe.MixtureOfExperts, "share", lambda self, x: asked.append("share") or share(self, x))
    with FakeTensorMode() as mode, torch.no_grad():
        for module in dit.modules():
            for kept in (module._parameters, module._buffers):
                kept.update({name: mode.from_tensor(tensor) for name, tensor in kept.items() if tensor is not None})
        context = dit.prepare_context(torch.empty(1, 17, config.dit.context_width))
        x = torch.empty(config.latent_shape)
        with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
            x.sum().item()
        with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
            x.nonzero()
        in_turn = policy == INT8
        for time in (0.0, 0.5):
            x = x + 0.5 * sampler.guided_velocity(dit, x, time, context, 5.0, in_turn)
        assert x.shape == config.latent_shape
    assert asked == ["copy", "share", "wait"] * (4 if in_turn else 2) * config.dit.moe_layers
