"""The names that TotalSegmentator gives its masks, one structure a file: ``liver.nii.gz``.

They are the classes of its tasks ``total`` and ``total_mr``, versions 1 and 2 (its map_to_binary.py as of 2.18). Other
tasks of it have names that scans go by too, such as head and breast.
"""

_SINGLE = """
    aorta atrial_appendage_left brachiocephalic_trunk brain colon costal_cartilages duodenum esophagus face
    gallbladder heart heart_myocardium inferior_vena_cava intervertebral_discs liver lung_middle_lobe_right
    pancreas portal_vein_and_splenic_vein prostate pulmonary_artery pulmonary_vein sacrum skull small_bowel
    spinal_cord spleen sternum stomach superior_vena_cava thyroid_gland trachea urinary_bladder vertebrae
"""
_PAIRED = """
    adrenal_gland autochthon brachiocephalic_vein clavicula common_carotid_artery femur gluteus_maximus
    gluteus_medius gluteus_minimus heart_atrium heart_ventricle hip humerus iliac_artery iliac_vena iliopsoas
    kidney kidney_cyst lung lung_lower_lobe lung_upper_lobe scapula subclavian_artery
"""
_SIDES = ("left", "right")
_VERTEBRAE = {"C": 7, "T": 12, "L": 5, "S": 1}

#: Names of masks, without suffixes.
ORGANS = frozenset(
    [
        *_SINGLE.split(),
        *(f"{name}_{side}" for name in _PAIRED.split() for side in _SIDES),
        *(f"rib_{side}_{number}" for side in _SIDES for number in range(1, 13)),
        *(f"vertebrae_{part}{number}" for part, count in _VERTEBRAE.items() for number in range(1, count + 1)),
    ]
)
