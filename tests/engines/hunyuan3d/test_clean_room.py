"""What the engine does without."""

import subprocess
import sys

FOREIGN = ("transformers", "diffusers", "torchvision", "einops", "omegaconf", "pymeshlab")


def test_every_module_is_imported_where_none_of_the_public_projects_packages_is():
    code = (
        "import importlib, pkgutil, sys\n"
        f"sys.modules.update(dict.fromkeys({FOREIGN}))\n"  # None: an import of it raises
        "import orfeas.engines.hunyuan3d as package\n"
        "names = [module.name for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.')]\n"
        "for name in names:\n"
        "    importlib.import_module(name)\n"
        "print(*names, sep='\\n')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert {"orfeas.engines.hunyuan3d.engine", "orfeas.engines.hunyuan3d.parity"} <= set(done.stdout.split())
