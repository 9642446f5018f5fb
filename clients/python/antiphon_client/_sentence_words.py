"""Words by which a full stop is judged, in small letters and without the stop at their end."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TITLES = _words(
    """
    mr mrs ms mx dr prof rev hon gen col maj capt cpt lt sgt cpl adm gov sen rep messrs mme mlle mmes dra dres ste mt
    hr fr frl dipl ing sr sra srta ud uds sres dott sig avv arch dhr mevr mw hab inż mgr yrd doç
    """
)
"""Titles, with a capital: a name follows, so that they end nothing."""

NEVER = _words(
    """
    vs cf viz al approx resp incl excl esp eds trans ibid ca bzw vgl evtl ggf sog inkl zzgl geb prof dr sig av ee
    bijv np tzn ul např tzv tj mj dvs örn ст ул им гр тов акад проф напр см обл sig.ra dña
    e.g i.e z.b d.h u.a o.ä i.d.r z.t s.o s.u p.ex p.ej t.ex bl.a т.е т.н v.a m.b.t o.a j.-c
    """
)
"""Something follows, so that they end nothing."""

BEFORE_NUMBERS = _words(
    """
    no nos nr núm num pág pag págs pp vol vols ch chap sec fig figs eq eqs tab abb arts abs para ex op bd ed
    jan feb mar apr jun jul aug sep sept oct nov dec стр рис табл гл str tel ext
    rm apt bldg art mon tue tues wed thu thur thurs fri sat sun
    p s c г č п
    """
)
"""Before a number they end nothing."""

MAYBE = _words("st inc ltd co corp jr llc plc bros gmbh esq dept univ assn ave blvd rd")
"""They end a sentence only before one of `STARTERS`, as initials do, and what has stops inside, as `U.S.`."""

STARTERS = _words(
    """
    the a an this that these those it its he she we they i you there here in on at by for from with as after before
    when while if but and or so yet however then still also now what who why how where which is are was do does did
    my our your his her their no not all some many most each every one two since although because once today let
    please thus therefore meanwhile finally first second next
    der die das ein eine er sie es wir ich le la les il elle nous el los las un una
    """
)
"""Words that with a capital mostly begin a sentence."""

CLOCK = _words("a.m p.m")
"""They end a sentence before all but `AFTER_CLOCK`."""

AFTER_CLOCK = _words(
    """
    est edt cst cdt mst mdt pst pdt gmt utc cet cest bst ist jst eastern central mountain pacific monday tuesday
    wednesday thursday friday saturday sunday
    """
)

AFTER_ORDINALS = _words(
    """
    januar jänner februar märz april mai juni juli august september oktober november dezember jahrhundert jahrhunderts
    kapitel klasse auflage stock platz weltkrieg weltkriegs semester lebensjahr
    """
)
"""What follows ordinal numbers such as `3.` in German, where nouns have capitals, too."""
