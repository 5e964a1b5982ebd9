"""Hounsfield units at which the package separates air, soft tissue, bone and metal.

Each constant has one purpose. The thresholds for bone differ because trabecular bone overlaps with contrast-enhanced vessels
and organs: each use places its threshold where a wrong voxel does the least harm.
"""

# Knots of the curve from HU to attenuation in `ct.attenuation`.
AIR_MAXIMUM_HU = -950.0  # attenuation is 0 up to here, so that the box around the patient is tight
WATER_LINE_MINIMUM_HU = -850.0  # water of reduced density from here on; the ramp from air avoids a jump
BONE_MIXTURE_MINIMUM_HU = 100.0  # above soft tissue of any density, calcium steepens the curve: physics, not a segmentation
CURVE_END_HU = 1e6  # the last knot, far beyond any scanner's range: extends the second slope to metal

# Bone as the package separates it from soft tissue.
BONE_OUTLINE_MINIMUM_HU = 200.0  # bone edges that are drawn on an X-ray: low, so that thin and osteoporotic bone is outlined
BONE_SPLIT_HU = 250.0  # soft tissue and what bone adds to it: in the middle, because a wrong voxel only changes its contrast
BONE_ABOVE_SOFT_TISSUE_HU = 130.0  # bone alone as the moving image: above organs, low because spongy vertebrae are part of it
SOFT_TISSUE_HU = 40.0  # muscle, blood and organs: what bone displaces
BONE_SAMPLE_MINIMUM_HU = 300.0  # landmarks and the aim of a view: high, because a landmark in an enhanced vessel is wrong
NO_BONE_MAXIMUM_HU = 200.0  # a CT whose maximum is lower is reported to have no bone: low, so that the warning is certain

# Objects in air, by the share of their voxels.
DENSE_OBJECT_HU = 150.0  # above every soft tissue: most voxels of a bone or an implant that was cut out, a fifth of a head's
METAL_HU = 2500.0  # above most of the cortical bone that a scanner clips at 3071

# Plausibility of the HU that a reader delivers.
PADDING_MAXIMUM_HU = -1024.0  # nothing real is lower; scanners fill with -2000, -3024, -32768 ...
AIR_OR_LUNG_MAXIMUM_HU = -500.0  # halfway between air and water: body is higher, air is lower, even when HU are shifted
BODY_MINIMUM_HU = -300.0  # body at the rim of the field of view: below fat (about -100), well above air
CLIPPED_HU = (3000.0, 3100.0)  # a maximum in this range is where a 12-bit scanner clips (3071); metal reads higher elsewhere
MAXIMUM_HU = 50_000.0  # extended scales end near 31000; signed 16-bit values read as unsigned begin near 60000
