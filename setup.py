"""Package metadata; tool settings stand in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
LINES = (HERE / "bts_auto" / "__init__.py").read_text(encoding="utf-8").splitlines()
VERSION = next(line.split('"')[1] for line in LINES if line.startswith("__version__"))
COMMANDS = [
    "plan_and_preprocess", "fingerprint", "plan", "preprocess", "train", "predict", "ensemble", "evaluate", "convert",
    "recipes", "demo", "export", "install", "import_nnunet",
]  # fmt: skip

setup(
    name="bts_auto",
    version=VERSION,
    description="Self-configuring brain-tumour segmentation: plan, train, predict, ensemble, evaluate",
    long_description=(HERE / "README.md").read_text(encoding="utf-8") if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    # The recipes stand in plans/ of the repository and are installed as bts_auto/plans.
    packages=[*find_packages(include=["bts_auto", "bts_auto.*"]), "bts_auto.plans"],
    package_dir={"bts_auto.plans": "plans"},
    package_data={"bts_auto": ["py.typed"], "bts_auto.plans": ["*.json"]},
    install_requires=[
        "torch>=2.6,!=2.9.*",  # 2.9 runs 3D convolutions about 4 times slower under autocast (pytorch #166122)
        "numpy>=2.0",
        "scipy>=1.11",
        "scikit-image>=0.22",
        "scikit-learn>=1.3",
        "SimpleITK>=2.3",
        "blosc2>=3.0",
        "safetensors>=0.4",
        "pydantic>=2.7",
        "connected-components-3d>=3.12",
        "edt>=2.4",
        "batchgenerators>=0.25.1",
        "batchgeneratorsv2>=0.3",
        "acvl-utils>=0.2.3",
        "threadpoolctl>=3.1",
        "tqdm>=4.66",
        "rich>=13",
        "matplotlib>=3.8",
        "jinja2>=3.1",
    ],
    extras_require={
        "test": [
            "pytest>=8",
            "pytest-xdist>=3",
            "pytest-timeout>=2",
            "hypothesis>=6",
            "surface-distance>=0.1",
            "psutil>=5.9",
            "jsonschema>=4.18",
            "openvino>=2025.0",
            "optuna>=3.0",
            "distributed>=2024.8",
        ],
        "dev": ["ruff", "mypy", "pre-commit"],
        "dask": ["distributed>=2024.8"],
        "openvino": ["openvino>=2025.0"],
        "tb": ["tensorboard>=2.14"],
        "hpo": ["optuna>=3.0"],
    },
    entry_points={"console_scripts": [f"bts_{name} = bts_auto.cli.{name}:main" for name in COMMANDS]},
    classifiers=["Programming Language :: Python :: 3", "Operating System :: OS Independent"],
)
