"""Where a person lives, as coarsely as rules and statistics need it.

Belongs here: the SQL that makes a region of an address. Does not belong here: codes of states and countries
(dbt staging).
"""


def region_sql(region: str, postal_code: str) -> str:
    """SQL expression: the region's text, else `postal:` and the first two characters of the postal code, else
    null.

    Takes two SQL expressions of type varchar. A country's mark before the code (`CZ-110 00`) is left out, and
    a code of one or two characters is not used at all: its beginning would be the whole. A region text that
    contains the postal code (a tenant's column with both) counts as not given.
    """
    unmarked = rf"regexp_replace(trim({postal_code}), '^[A-Za-z]{{1,3}}[- ]+([0-9])', '\1')"
    letters = r"'[^\p{L}\p{N}]', '', 'g'"
    code = f"upper(regexp_replace({unmarked}, {letters}))"
    plain_region = f"upper(regexp_replace({region}, {letters}))"
    return (
        f"case when trim({region}) <> '' "
        f"and coalesce({code} = '' or not contains({plain_region}, {code}), true) "
        f"then trim({region}) "
        f"when length({code}) > 2 then 'postal:' || left({code}, 2) end"
    )
