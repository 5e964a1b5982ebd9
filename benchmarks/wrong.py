"""False acceptance: registration to another CT, of mirrored X-rays, and from initial poses far away.

    python benchmarks/wrong.py CASES OTHER_CASES [--far-mm 100] [--without-initial]

None of these may be accepted at a wrong pose. The two folders of cases (as `fluoro-reg simulate` writes them) belong to
different CTs, and the images of each are also registered to the other CT. Prints every accepted pose that is wrong, and the
distribution of the gates' scores.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from fluoro_reg.carm.pose_sampling import perturb_to_mtre
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.formats.cases import RegistrationCase, find_cases, read_case
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration import Registrar, RegistrationOptions, RegistrationResult
from fluoro_reg.xray.image import XrayImage
from fluoro_reg.xray.reader import read_xray

GROSS_MM = 10.0


def mirrored(image: XrayImage, dim: int) -> XrayImage:
    return replace(image, pixels=image.pixels.flip(dim), mask=image.mask.flip(dim))


def pose_for_other_ct(pose: RigidTransform, registrar: Registrar, other: Registrar) -> RigidTransform:
    """Return the initial pose that puts another CT where this one is."""
    centre = pose.apply(registrar.ct.centre_patient[None])[0]
    return RigidTransform(pose.rotation, centre - pose.rotation @ other.ct.centre_patient)


def attempts(
    case: RegistrationCase, own: Registrar, other: Registrar, far_mm: float, generator: torch.Generator
) -> list[tuple[str, RegistrationResult, bool]]:
    """Return the name and result of every attempt, and whether an accepted pose would be right."""
    image = read_xray(case.image, case.intrinsics, case.intensity, case.frame)
    points = case.landmarks_patient
    far = perturb_to_mtre(case.truth, points, far_mm, points.mean(0), generator)
    from_far = own.register(image, far)
    pose = from_far.camera_from_patient
    error = GROSS_MM if pose is None else target_registration_errors(pose, case.truth, points).mtre_mm
    return [
        ("another CT", other.register(image, pose_for_other_ct(case.initial, own, other)), False),
        ("mirrored left-right", own.register(mirrored(image, 1), case.initial), False),
        ("mirrored top-bottom", own.register(mirrored(image, 0), case.initial), False),
        (f"start {far_mm:g} mm away", from_far, error < GROSS_MM),
    ]


def attempts_without_initial(
    case: RegistrationCase, own: Registrar, other: Registrar
) -> list[tuple[str, RegistrationResult, bool]]:
    """Return the same where all views of a range are searched; the own CT and image may be found anywhere in it."""
    image = read_xray(case.image, case.intrinsics, case.intensity, case.frame)
    found = own.register(image)
    pose = found.camera_from_patient
    error = GROSS_MM if pose is None else target_registration_errors(pose, case.truth, case.landmarks_patient).mtre_mm
    return [
        ("another CT", other.register(image), False),
        ("mirrored left-right", own.register(mirrored(image, 1)), False),
        ("mirrored top-bottom", own.register(mirrored(image, 0)), False),
        ("own CT", found, error < GROSS_MM),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs=2)
    parser.add_argument("--far-mm", type=float, default=100.0, help="error of the far initial poses; less for small CTs")
    parser.add_argument("--without-initial", action="store_true", help="search all views instead")
    arguments = parser.parse_args()
    cases = [[read_case(folder) for folder in find_cases(root)] for root in arguments.folders]
    registrars = [Registrar(read_ct(group[0].ct), RegistrationOptions()) for group in cases]
    generator = torch.Generator().manual_seed(0)
    rows = []
    for k, group in enumerate(cases):
        for case in group:
            own, other = registrars[k], registrars[1 - k]
            if arguments.without_initial:
                rows += [(case.name, *row) for row in attempts_without_initial(case, own, other)]
            else:
                rows += [(case.name, *row) for row in attempts(case, own, other, arguments.far_mm, generator)]
    print(
        "| attempt | n | accepted | accepted and wrong | highest similarity of a wrong one | highest patch similarity of one |"
    )
    print("|---|--:|--:|--:|--:|--:|")
    for name in dict.fromkeys(row[1] for row in rows):
        attempt_rows = [row for row in rows if row[1] == name]
        wrong = [result for _, _, result, right in attempt_rows if not right]
        scores = [[r.scores.get(s, -1.0) for r in wrong] for s in ("similarity", "patch_similarity")]
        accepted = sum(result.accepted for _, _, result, _ in attempt_rows)
        false_accepts = sum(result.accepted for result in wrong)
        similarity, patch = (max(values, default=-1.0) for values in scores)
        print(f"| {name} | {len(attempt_rows)} | {accepted} | {false_accepts} | {similarity:.2f} | {patch:.2f} |")
    for case_name, name, result, right in rows:
        if result.accepted and not right:
            print(f"ACCEPTED AND WRONG: {case_name}, {name}: {result.reason}; {result.scores}")


if __name__ == "__main__":
    main()
