"""Carry labels from a few annotated frames through a whole video, with no training."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from propagate.config import ModelOptions, PropagationSettings, VideoSettings, preset
    from propagate.convert import ConvertRequest, convert_masks
    from propagate.correct import CorrectRequest, correct_run
    from propagate.errors import PropagateError
    from propagate.extract import ExtractRequest, extract_features
    from propagate.features.hyper.synthetic import TextToImage
    from propagate.features.registry import create_extractor
    from propagate.generate import GenerateRequest, generate_images
    from propagate.labels.keypoint_checks import load_reference_keypoints
    from propagate.labels.keypoint_files import read_keypoints, write_keypoints
    from propagate.labels.keypoint_formats.base import AnnotatedFrame, KeypointFile
    from propagate.labels.mask_checks import load_reference_mask
    from propagate.labels.mask_files import read_mask, write_mask
    from propagate.labels.references import Reference, References
    from propagate.match.job import match_images
    from propagate.match.report import MatchReport
    from propagate.match.request import MatchRequest
    from propagate.matching.geometric import GeometricSettings, fit_transform, match_keypoints
    from propagate.matching.prompt.create import create_prompt_matcher
    from propagate.matching.prompt.matcher import PromptMatcher
    from propagate.matching.prompt.settings import PromptSettings
    from propagate.matching.semantic import SemanticSettings, match_points, similarity_map
    from propagate.pipeline import VideoPropagator
    from propagate.results import FrameResult
    from propagate.run import RunRequest, run_clip
    from propagate.session import Session
    from propagate.suggest import SuggestRequest, choose_frames, suggest_frames
    from propagate.transfer.job import transfer_clip
    from propagate.transfer.request import TransferRequest
    from propagate.types import (
        FeatureMap,
        Frame,
        Keypoints,
        LabelField,
        Masks,
        Matches,
        PointName,
        Size,
    )
    from propagate.video import open_clip

__version__ = "0.1.0"

# Imported on first use, so that `import propagate` loads no torch, decord or OpenCV.
_HOMES = {
    "ConvertRequest": "convert",
    "CorrectRequest": "correct",
    "correct_run": "correct",
    "AnnotatedFrame": "labels.keypoint_formats.base",
    "ExtractRequest": "extract",
    "FeatureMap": "types",
    "Frame": "types",
    "FrameResult": "results",
    "GenerateRequest": "generate",
    "TextToImage": "features.hyper.synthetic",
    "generate_images": "generate",
    "KeypointFile": "labels.keypoint_formats.base",
    "Keypoints": "types",
    "LabelField": "types",
    "Masks": "types",
    "GeometricSettings": "matching.geometric",
    "MatchReport": "match.report",
    "MatchRequest": "match.request",
    "Matches": "types",
    "PromptMatcher": "matching.prompt.matcher",
    "PromptSettings": "matching.prompt.settings",
    "create_prompt_matcher": "matching.prompt.create",
    "SemanticSettings": "matching.semantic",
    "fit_transform": "matching.geometric",
    "match_images": "match.job",
    "match_keypoints": "matching.geometric",
    "match_points": "matching.semantic",
    "similarity_map": "matching.semantic",
    "ModelOptions": "config",
    "PointName": "types",
    "PropagateError": "errors",
    "PropagationSettings": "config",
    "Reference": "labels.references",
    "References": "labels.references",
    "RunRequest": "run",
    "Session": "session",
    "Size": "types",
    "SuggestRequest": "suggest",
    "TransferRequest": "transfer.request",
    "VideoPropagator": "pipeline",
    "VideoSettings": "config",
    "choose_frames": "suggest",
    "convert_masks": "convert",
    "create_extractor": "features.registry",
    "extract_features": "extract",
    "load_reference_keypoints": "labels.keypoint_checks",
    "load_reference_mask": "labels.mask_checks",
    "open_clip": "video",
    "preset": "config",
    "read_keypoints": "labels.keypoint_files",
    "read_mask": "labels.mask_files",
    "run_clip": "run",
    "suggest_frames": "suggest",
    "transfer_clip": "transfer.job",
    "write_keypoints": "labels.keypoint_files",
    "write_mask": "labels.mask_files",
}

__all__ = [
    "AnnotatedFrame",
    "ConvertRequest",
    "CorrectRequest",
    "ExtractRequest",
    "FeatureMap",
    "Frame",
    "FrameResult",
    "GenerateRequest",
    "GeometricSettings",
    "KeypointFile",
    "Keypoints",
    "LabelField",
    "Masks",
    "MatchReport",
    "MatchRequest",
    "Matches",
    "ModelOptions",
    "PointName",
    "PromptMatcher",
    "PromptSettings",
    "PropagateError",
    "PropagationSettings",
    "Reference",
    "References",
    "RunRequest",
    "SemanticSettings",
    "Session",
    "Size",
    "SuggestRequest",
    "TextToImage",
    "TransferRequest",
    "VideoPropagator",
    "VideoSettings",
    "choose_frames",
    "convert_masks",
    "correct_run",
    "create_extractor",
    "create_prompt_matcher",
    "extract_features",
    "fit_transform",
    "generate_images",
    "load_reference_keypoints",
    "load_reference_mask",
    "match_images",
    "match_keypoints",
    "match_points",
    "open_clip",
    "preset",
    "read_keypoints",
    "read_mask",
    "run_clip",
    "similarity_map",
    "suggest_frames",
    "transfer_clip",
    "write_keypoints",
    "write_mask",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'propagate' has no attribute {name!r}")
    value = getattr(import_module(f"propagate.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
