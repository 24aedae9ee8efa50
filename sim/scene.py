"""What a task puts on the table, and how an episode begins; without needing the simulator."""

from __future__ import annotations

from dataclasses import dataclass

from sim.arm import MAX_OPENING_M, ONE_ARM

Vector = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """An MJCF model and the names that matter in it.

    Attributes:
        file: File name in `sim/assets`.
        arms: What the names of each arm begin with.
        bases: Where each arm stands: x, y of its base [m] and its turn about the vertical [rad].
        thing: Body with a free joint of the same name that is placed at every reset; empty where there is none.
        fixture: Body fixed to the table that is placed at every reset; empty where there is none.
        slide: Joint that moves in the fixture; empty where there is none.
        target_radius_m: Radius of the marker of the target, which is opaque then [m]; None for the model's translucent
            one, through which a thing can be seen.
        substeps: Steps of the simulation per control step.
    """

    file: str
    arms: tuple[str, ...] = ONE_ARM
    bases: tuple[Vector, ...] = ((0.0, 0.0, 0.0),)
    thing: str = ""
    fixture: str = ""
    slide: str = ""
    target_radius_m: float | None = None
    substeps: int = 20


@dataclass(frozen=True, kw_only=True)
class Start:
    """How an episode begins; positions in the base frame.

    Attributes:
        tcp_positions: Where each gripper starts [m].
        opening_m: How far the grippers are open [m].
        thing_position: Centre of the scene's thing [m].
        thing_from_tcp: The same from the first gripper, which is closed on it before the episode begins [m].
        thing_yaw: Its turn about the vertical [rad].
        fixture_position: Where the scene's fixture stands [m].
        target_position: Where the target is [m]; None where there is none, which also hides it.
    """

    tcp_positions: tuple[Vector, ...]
    opening_m: float = MAX_OPENING_M
    thing_position: Vector | None = None
    thing_from_tcp: Vector | None = None
    thing_yaw: float = 0.0
    fixture_position: Vector | None = None
    target_position: Vector | None = None
