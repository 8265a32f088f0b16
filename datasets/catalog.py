"""Facts about public data sets: content, layout, numbers of pairs, terms, papers, statistics.

`uncertain` names fields that do not come from the set's own page or paper. The statistics were released with HANet's
code (settings of its loader): mean and standard deviation of RGB in [0, 1] over the training tiles, before then after.
"""

from dataclasses import dataclass

Statistics = dict[str, list[list[float]]]  # mean, std: one row a date
GENERIC = "generic"  # entry of all other sets


@dataclass(frozen=True)
class KnownCounts:
    """Pairs per split of a public set with square images of one side, in pixels; None: no such split."""

    side: int
    train: int
    val: int | None
    test: int
    certain: bool = True  # False: remembered or read at second hand


@dataclass(frozen=True)
class PublicSet:
    """One public set; what is left out is unknown."""

    title: str  # its usual name
    content: str  # pairs and their size in pixels, their origin, what counts as changed
    layout: str  # folders as distributed, below --data-root; braces as in a shell, before, after and label first
    suffixes: tuple[str, str]  # of images and of labels, as distributed
    metres: str = ""  # metres per pixel, one number or a range
    counts: tuple[KnownCounts, ...] = ()  # pairs per split, for each size and each way of splitting in use
    terms: str = ""  # of use, by its makers
    source: str = ""  # address
    paper: str = ""  # to cite
    statistics: Statistics | None = None  # of its training tiles; None if nobody published them
    aliases: tuple[str, ...] = ()  # beginnings of the names of its folders, in small letters without signs
    uncertain: tuple[str, ...] = ()  # fields from memory or at second hand, or unknown

    def said(self, field: str) -> str:
        """Return a field as text, marked if it is uncertain."""
        return (getattr(self, field) or "unknown") + (" (uncertain)" if field in self.uncertain else "")


def _statistics(before: tuple[str, str], after: tuple[str, str]) -> Statistics:
    rows = [[float(x) for x in row.split()] for row in (*before, *after)]
    return {"mean": [rows[0], rows[2]], "std": [rows[1], rows[3]]}


CATALOG: dict[str, PublicSet] = {
    "levir": PublicSet(
        title="LEVIR-CD",
        content="637 pairs of 1024 x 1024, Google Earth, 20 regions in Texas, 2002 to 2018; buildings",
        metres="0.5",
        layout="{train,val,test}/{A,B,label}",
        suffixes=(".png", ".png"),
        counts=(KnownCounts(1024, 445, 64, 128), KnownCounts(256, 7120, 1024, 2048)),
        terms="academic use only, nothing commercial; Google Earth's terms hold for the images",
        source="https://justchenhao.github.io/LEVIR/",
        paper="Chen and Shi, A Spatial-Temporal Attention-Based Method and a New Dataset for Remote Sensing Image "
        "Change Detection, Remote Sensing 12(10), 1662, 2020, https://doi.org/10.3390/rs12101662",
        aliases=("levir",),
        statistics=_statistics(
            ("0.45025915 0.44666713 0.38134697", "0.21711577 0.20401315 0.18665968"),
            ("0.3455239 0.33819652 0.2888149", "0.157594 0.15198614 0.14440961"),
        ),
    ),
    "whu": PublicSet(
        title="WHU-CD",
        content="one aerial pair of 32507 x 15354, Christchurch, and tiles of 512 x 512 cut from it; buildings",
        metres="0.2",
        layout="{train,test}/{A,B,label}",
        suffixes=(".tif", ".tif"),
        counts=(
            KnownCounts(512, 1260, None, 690),  # its makers' tiles
            KnownCounts(256, 4536, 504, 2760),  # HANet Sec. IV-A: four of each, a tenth of train to val
            KnownCounts(256, 5040, None, 2760),  # the same before that tenth is taken
            KnownCounts(256, 6096, 762, 762, certain=False),  # the whole pair, split at random
        ),
        terms="none stated where it was looked for",
        source="http://gpcv.whu.edu.cn/data/building_dataset.html",
        paper="Ji, Wei and Lu, Fully Convolutional Networks for Multisource Building Extraction From an Open Aerial "
        "and Satellite Imagery Data Set, IEEE TGRS 57(1), 2019, https://doi.org/10.1109/TGRS.2018.2858817",
        aliases=("whu",),
        uncertain=("layout", "suffixes", "terms"),
        statistics=_statistics(
            ("0.49069053 0.44911194 0.39301977", "0.17230505 0.16819492 0.17020544"),
            ("0.49139765 0.49035382 0.46980983", "0.2150498 0.20449342 0.21956162"),
        ),
    ),
    "sysu": PublicSet(
        title="SYSU-CD",
        content="20000 aerial pairs of 256 x 256, Hong Kong, 2007 to 2014; buildings, roads, vegetation and more",
        metres="0.5",
        layout="{train,val,test}/{time1,time2,label}",
        suffixes=(".png", ".png"),
        counts=(KnownCounts(256, 12000, 4000, 4000, certain=False),),
        terms="no licence in its repository",
        source="https://github.com/liumency/SYSU-CD",
        paper="Shi et al., A Deeply Supervised Attention Metric-Based Network and an Open Aerial Image Dataset for "
        "Remote Sensing Change Detection, IEEE TGRS, 2021, https://doi.org/10.1109/TGRS.2021.3085870",
        aliases=("sysu",),
        uncertain=("layout",),
        statistics=_statistics(
            ("0.39659828 0.5284582 0.46539742", "0.24339822 0.1843563 0.18066375"),
            ("0.40202096 0.48765418 0.39895305", "0.21836075 0.18112999 0.17903014"),
        ),
    ),
    "gz": PublicSet(
        title="GZ-CD",
        content="19 pairs from 1006 x 1168 to 4936 x 5224, Google Earth, suburbs of Guangzhou, 2006 to 2019; buildings",
        metres="0.55",
        layout="{train,test}/{A,B,OUT}",  # as AMFNet's authors arranged their tiles
        suffixes=(".png", ".png"),
        counts=(),  # no public split
        terms="no licence in its repository",
        source="https://github.com/daifeng2016/Change-Detection-Dataset-for-High-Resolution-Satellite-Imagery",
        paper="Peng et al., SemiCDNet: A Semisupervised Convolutional Neural Network for Change Detection in High "
        "Resolution Remote-Sensing Images, IEEE TGRS, 2020, https://doi.org/10.1109/TGRS.2020.3011913",
        aliases=("gzcd", "cddatagz"),
        uncertain=("content", "metres", "layout", "suffixes", "counts"),
    ),
    "cdd": PublicSet(
        title="CDD",
        content="16000 pairs of 256 x 256, 15998 of them usable, cut and turned from 7 (some say 11) of Google Earth, "
        "seasons differ (also called SVCD)",
        metres="0.03 to 1",
        layout="{train,val,test}/{A,B,OUT}",  # below ChangeDetectionDataset/Real/subset
        suffixes=(".jpg", ".jpg"),
        counts=(KnownCounts(256, 10000, 3000, 3000), KnownCounts(256, 10000, 2998, 3000)),
        terms="none stated where it was looked for",
        source="https://drive.google.com/file/d/1GX656JqqOyBi_Ef0w65kDGVto-nHrNs9",
        paper="Lebedev et al., Change Detection in Remote Sensing Images Using Conditional Adversarial Networks, ISPRS "
        "Archives XLII-2, 565-571, 2018, https://doi.org/10.5194/isprs-archives-XLII-2-565-2018",
        aliases=("cdd", "svcd", "changedetectiondataset"),
        uncertain=("content", "terms"),
        statistics=_statistics(
            ("0.35390204 0.3910402 0.3430754", "0.21585055 0.23398526 0.2087468"),
            ("0.47324985 0.49860582 0.46874452", "0.24311192 0.2601877 0.25678152"),
        ),
    ),
    "dsifn": PublicSet(
        title="DSIFN",
        content="3940 pairs of 512 x 512 made from 394 of five Chinese cities, 48 of Xi'an to test on, Google Earth",
        metres="2",
        layout="{train,val,test}/{t1,t2,mask}",
        suffixes=(".jpg", ".png"),  # labels of test: .tif
        counts=(KnownCounts(512, 3600, 340, 48), KnownCounts(256, 14400, 1360, 192)),
        terms="its page asks to cite the paper, and names no licence",
        source="https://github.com/GeoZcx/A-deeply-supervised-image-fusion-network-for-change-detection-in-remote-"
        "sensing-images/tree/master/dataset",
        paper="Zhang et al., A Deeply Supervised Image Fusion Network for Change Detection in High Resolution "
        "Bi-Temporal Remote Sensing Images, ISPRS Journal 166, 183-200, 2020, https://doi.org/10.1016/j.isprsjprs.2020.06.003",
        aliases=("dsifn",),
        uncertain=("metres",),
        statistics=_statistics(
            ("0.39334667 0.41008812 0.372291", "0.20001005 0.19594198 0.19641198"),
            ("0.39037502 0.3820759 0.38505003", "0.19432788 0.17783593 0.17126249"),
        ),
    ),
    "s2looking": PublicSet(
        title="S2Looking",
        content="5000 satellite pairs of 1024 x 1024 taken from the side, rural places all over the world; buildings, "
        "new ones also in label1, removed ones in label2",
        metres="0.5 to 0.8",
        layout="{train,val,test}/{Image1,Image2,label,label1,label2}",
        suffixes=(".png", ".png"),
        counts=(KnownCounts(1024, 3500, 500, 1000, certain=False), KnownCounts(256, 56000, 8000, 16000)),
        terms="no licence in its repository",
        source="https://github.com/S2Looking/Dataset",
        paper="Shen et al., S2Looking: A Satellite Side-Looking Dataset for Building Change Detection, Remote Sensing "
        "13(24), 5094, 2021, https://doi.org/10.3390/rs13245094",
        aliases=("s2looking",),
        statistics=_statistics(
            ("0.17553517 0.20817895 0.20358624", "0.07853421 0.080604345 0.07777272"),
            ("0.20552409 0.21961312 0.21183391", "0.07319275 0.06418888 0.06009885"),
        ),
    ),
    "clcd": PublicSet(
        title="CLCD",
        content="600 pairs of 512 x 512, Gaofen-2, Guangdong, 2017 and 2019; cropland",
        metres="0.5 to 2",
        layout="{train,val,test}/{time1,time2,label}",
        suffixes=(".png", ".png"),
        counts=(KnownCounts(512, 360, 120, 120), KnownCounts(512, 320, 120, 120, certain=False)),
        terms="no licence in its repository",
        source="https://github.com/liumency/CropLand-CD",
        paper="Liu et al., A CNN-Transformer Network With Multiscale Context Aggregation for Fine-Grained Cropland "
        "Change Detection, IEEE JSTARS 15, 4297-4306, 2022, https://doi.org/10.1109/JSTARS.2022.3177235",
        aliases=("clcd",),
    ),
    "btcdd": PublicSet(
        title="BTCDD",
        content="unknown number of pairs, Google Earth (also called BICDD)",
        layout="{train,test}/{A,B,OUT}",  # as AMFNet's authors have it
        suffixes=(".jpg", ".png"),
        source="not public as far as was found",
        aliases=("btcdd", "bicdd"),
        uncertain=("content", "metres", "layout", "counts", "terms", "source", "paper"),
    ),
    GENERIC: PublicSet(
        title="generic",
        content="any set that is none of the others",
        layout="{train,val,test}/{A,B,label}",
        suffixes=(".png", ".png"),
        uncertain=("metres", "counts", "terms", "source", "paper"),
    ),
}

_IMAGENET = ("0.485 0.456 0.406", "0.229 0.224 0.225")

STATISTICS: dict[str, Statistics] = {
    "none": _statistics(("0 0 0", "1 1 1"), ("0 0 0", "1 1 1")),  # [0, 1] as it is: AMFNet's training
    "imagenet": _statistics(_IMAGENET, _IMAGENET),
    "half": _statistics(("0.5 0.5 0.5", "0.5 0.5 0.5"), ("0.5 0.5 0.5", "0.5 0.5 0.5")),  # [-1, 1]: BIT's training
    **{name: entry.statistics for name, entry in CATALOG.items() if entry.statistics},
}
