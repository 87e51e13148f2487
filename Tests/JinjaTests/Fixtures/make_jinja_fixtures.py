"""Renders small templates with Jinja, as transformers sets it up, and writes what came out to `jinja.json`.

Run: python make_jinja_fixtures.py (needs transformers)
"""

import datetime
import json
from pathlib import Path

from transformers.utils import chat_template_utils


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2025, 3, 9, 14, 5, 6)


CONTEXT = {
    "name": "Ada", "empty": "", "zero": 0, "n": 7, "neg": -7, "x": 2.5, "yes": True, "no": False, "nothing": None,
    "text": "  The quick brown fox\njumps over the lazy dog.  ", "uni": "Grüße, 世界! ΑΣ ß ǆ é e\u0301 😀",
    "items": [3, 1, 2], "words": ["pear", "Apple", "fig", "apple"], "nested": [[1, 2], [3, [4, 5]]], "none_list": [],
    "user": {"name": "Bob", "age": 42, "tags": ["a", "b"], "address": {"city": "Bern"}, "items": "shadowed", "x y": 1},
    "people": [
        {"name": "Bob", "age": 42, "city": "Bern", "admin": True}, {"name": "ann", "age": 7, "city": "Basel"},
        {"name": "Cy", "age": 42, "city": "bern", "admin": False},
    ],
    "floats": [0.1, 1e20, 1e16, 1e-5, 100.0, -0.0, 1234567.891, 5e-324], "quote": "it's \"q\" \\ \n\t\x07\u200b",
    "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "<think>a</think>b"}],
}

EXPRESSIONS = r"""
name
undefined_name
undefined_name is defined
user.name
user['name']
user.missing
user.missing.deeper
user["x y"]
user.items
user.items()
user.keys()
user.values()
user.keys()[0]
user.get('name')
user.get('zip')
user.get('zip', 'none')
user | length
nothing
nothing.x
none
None
true
True
yes and no
yes or no
no or 'fallback'
'' or empty or 0 or 'last'
'a' and 'b'
not yes
not not yes
not empty
1 + 2 * 3
(1 + 2) * 3
7 / 2
7 // 2
-7 // 2
7 % 3
-7 % 3
7 % -3
7.5 % 2
-7.5 % 2
-7.5 // 2
7.5 // -2
6 / 3
1 / 3
2 ** 10
2 ** -1
2 ** 3 ** 2
-2 ** 2
2.0 ** 0.5
1 / 0
1 // 0
1 % 0
1.0 / 0
10 - 3 - 2
-n
+n
--n
- x
-name
0x1f + 0b11 + 0o17
1_000 + 1
1e3
1.5e-7
1.0
100000000000000000.0
3.14159
'a' ~ 1 ~ none ~ true ~ 2.0
'a' ~ undefined_name ~ 'b'
'a' + 'b'
'a' + 1
'a' * 3
3 * 'ab'
'a' * -1
[1, 2] * 2
[1] + [2, 3]
(1,) + (2,)
(1, 2)
(1,)
()
[]
{}
[1, 'a', none, true, 2.0, [1], {'k': 'v'}]
{'a': 1, 2: 'b', none: 3, true: 4, 1.5: 5}
{'a': 1, 'a': 2}
{1: 'int', 1.0: 'float', true: 'bool'}
1 == 1.0
1 == true
'1' == 1
none == none
undefined_name == undefined_name
undefined_name == none
[1, 2] == [1, 2]
(1, 2) == [1, 2]
{'a': 1, 'b': 2} == {'b': 2, 'a': 1}
'é' == 'é'
uni[-4:-3] == 'e'
1 < 2 < 3
1 < 3 < 2
3 > 2 >= 2
1 != 2
'a' < 'b'
'Z' < 'a'
'😀' > '\uffff'
[1, 2] < [1, 3]
[1] < [1, 0]
(1, 2) < (1, 2, 3)
1 < 'a'
none < 1
undefined_name < 1
'b' in 'abc'
'' in 'abc'
'z' not in 'abc'
1 in items
9 in items
'name' in user
'Bob' in user
1 in 'abc'
1 in 5
1 in undefined_name
not 1 in items
2 in range(3)
items[0]
items[-1]
items[9]
items['a']
items.0
items[1.0]
items[true]
items[:2]
items[1:]
items[::-1]
items[-2:]
items[5:]
items[2:0:-1]
items[::2]
items[::0]
items[none:none]
name[0]
name[-1]
name[5]
name[1:]
name[::-1]
uni[7:9]
uni[-1]
uni|length
(1, 2, 3)[1:]
range(10)[2:8:3]
range(5)
range(1, 10, 3)|list
range(5, 0, -2)|list
range(0)
range(100001)|length
range(1, 2, 0)
user[1:]
5[1]
undefined_name[0]
undefined_name[1:]
undefined_name.x
name.foo
name['upper']()
name.upper
nested[1][1][0]
nested.1.0
'yes' if yes else 'no'
'yes' if no else 'no'
'yes' if no
('yes' if no) is defined
1 if no else 2 if no else 3
'a' if yes and not no else 'b'
text.strip()
text.lstrip()
text.rstrip()
'xxaxx'.strip('x')
'abcba'.lstrip('ab')
'abc'.rstrip('bc')
text.split()
text.split(' ')
text.split('\n')
text.split(none, 2)
text.rsplit(none, 2)
'a,b,,c'.split(',')
'a,b,,c'.split(',', 1)
'a,b,,c'.rsplit(',', 1)
''.split(',')
''.split()
'abc'.split('')
'a\nb\r\nc\rd\u2028e'.splitlines()
'a\nb\n'.splitlines(true)
'<think>a</think>b'.split('</think>')[-1].lstrip('\n')
messages[1].content.split('</think>')[0].split('<think>')[-1]
name.startswith('A')
name.startswith(('B', 'A'))
name.endswith('da')
name.startswith('d', 1)
name.startswith(1)
name.upper()
name.lower()
'hello world'.title()
"they're bill's".title()
'hello WORLD'.capitalize()
'aBc'.swapcase()
uni.upper()
uni.lower()
uni.title()
uni.capitalize()
'ΑΣ ΑΣΑ Σ'.lower()
'ﬁx'.upper()
'ß'.casefold()
'aXbXc'.replace('X', '-')
'aXbXc'.replace('X', '-', 1)
'abc'.replace('', '-')
'abc'.replace('', '-', 2)
'aaa'.replace('aa', 'b')
'abcabc'.find('c')
'abcabc'.find('z')
'abcabc'.rfind('c')
'abcabc'.find('c', 3)
uni.find('世')
'abc'.index('z')
'abcabc'.count('bc')
'abc'.count('')
', '.join(['a', 'b'])
', '.join(words)
','.join([1])
'a-b-c'.partition('-')
'a-b-c'.rpartition('-')
'abc'.partition('-')
'abc'.removeprefix('a')
'abc'.removesuffix('c')
'abc'.center(10)
'abc'.center(10, '*')
'abcd'.center(9, '*')
'abc'.ljust(6) ~ '|'
'abc'.rjust(6)
'42'.zfill(5)
'-42'.zfill(5)
'a\tb'.expandtabs(4) ~ '|'
'abc'.isalpha()
'abc1'.isalnum()
'123'.isdigit()
'²'.isdigit()
'²'.isdecimal()
'½'.isnumeric()
' \t'.isspace()
''.isspace()
'abc'.islower()
'ABC'.isupper()
'Abc Def'.istitle()
'abc'.isidentifier()
'1abc'.isidentifier()
'é'.isascii()
'a\x07'.isprintable()
'{} and {}'.format('a', 1)
'{1} {0} {1}'.format('a', 'b')
'{name} {0}'.format(1, name='n')
'{0.name} {0[age]}'.format(user)
'{:>5}|{:<5}|{:^5}|{:*^7}'.format('a', 'b', 'c', 'd')
'{:5}|{:05d}|{:+d}|{:,}|{:x}|{:#x}|{:b}'.format(1, 42, 7, 1234567, 255, 255, 5)
'{:.2f} {:8.3f} {:e} {:g} {:%} {:.1%}'.format(3.14159, 2.5, 12345.678, 0.0001, 0.5, 0.123)
'{!r} {!s}'.format('a', 'b')
'{{}} {}'.format(1)
'{'.format()
'{}'.format()
'{:{}}|'.format('a', 4)
'{:d}'.format('a')
'%s and %d' % ('a', 5)
'%s' % 'x'
'%s' % items
'%d%%' % 50
'%5d|%-5d|%05d|%+d' % (1, 2, 3, 4)
'%.2f|%8.3f|%e|%g|%G' % (3.14159, 2.5, 12345.678, 1e-10, 1e20)
'%x %X %o %#x' % (255, 255, 8, 255)
'%r' % 'a'
'%(name)s is %(age)d' % user
'%s %s' % ('a',)
'%s' % ('a', 'b')
'%c%c' % ('a', 98)
'%.2s|%5.1s|' % ('abc', 'xyz')
'%d' % 3.99
'%d' % 'a'
'%*d' % (5, 42)
'%' % 1
words | sort
words | sort(case_sensitive=true)
words | sort(reverse=true)
items | sort
items | sort(true)
people | sort(attribute='age') | map(attribute='name') | list
people | sort(attribute='age,name', reverse=true) | map(attribute='name') | list
people | sort(attribute='city') | map(attribute='name') | join(',')
[1, 'a'] | sort
words | unique | list
words | unique(case_sensitive=true) | list
people | unique(attribute='age') | map(attribute='name') | list
words | first
words | last
[] | first
[] | last is defined
'abc' | first
user | first
words | join
words | join(', ')
people | join(', ', attribute='name')
items | join('-')
words | reverse | list
'abc' | reverse
words | map('upper') | list
words | map('upper') | join(',')
words | map('replace', 'p', 'b') | list
people | map(attribute='admin') | list
people | map(attribute='admin', default='?') | list
people | map(attribute='name') | map('lower') | join
people | map(attribute='address.city') | list
people | map('nofilter') | list
people | map | list
items | select('odd') | list
items | reject('odd') | list
items | select('gt', 1) | list
items | select('>', 1) | list
[0, 1, '', 'a', none] | select | list
people | selectattr('admin') | map(attribute='name') | list
people | selectattr('admin', 'defined') | map(attribute='name') | list
people | selectattr('age', 'equalto', 42) | map(attribute='name') | list
people | selectattr('age', 'in', [7, 8]) | list | length
people | rejectattr('age', 'eq', 42) | map(attribute='name') | list
people | rejectattr('admin') | map(attribute='name') | list
people | selectattr('age') | length
(people | selectattr('missing')) and 'generators are true'
undefined_name | select | list
nothing | select | list
people | groupby('city') | list | length
people | groupby('age') | map(attribute='grouper') | list
people | groupby('city') | map('first') | list
(people | groupby('age'))[0].list | map(attribute='name') | list
people | groupby('admin', default='no') | map('first') | list
items | batch(2) | list
items | batch(2, 'x') | list
items | slice(2) | list
items | slice(2, 'x') | list
range(7) | slice(3) | list
items | sum
people | sum(attribute='age')
items | sum(start=10)
words | sum
[[1], [2]] | sum(start=[])
items | min
items | max
words | min
words | max
words | max(case_sensitive=true)
people | max(attribute='age')
[] | max is defined
user | dictsort | first
{'b': 1, 'A': 2, 'c': 0} | dictsort
{'b': 1, 'A': 2, 'c': 0} | dictsort(true)
{'b': 1, 'A': 2, 'c': 0} | dictsort(false, 'value')
{'b': 1, 'A': 2, 'c': 0} | dictsort(reverse=true)
{'b': 1} | dictsort(by='x')
user | items | list | length
undefined_name | items | list
items | items | list
{'a': 1}.items() | list
{'a': 1} | list
'abc' | list
5 | list
undefined_name | list
name | length
items | count
5 | length
undefined_name | length
nothing | length
undefined_name | default('d')
undefined_name | d('d')
empty | default('d')
empty | default('d', true)
nothing | default('d')
nothing | default('d', true)
user.missing | default
undefined_name.x | default('d')
name | upper
name | lower
5 | upper
none | lower
'hello wORLD' | capitalize
'hello-wORLD (foo) [bar] <baz> it\'s' | title
text | trim
'xxaxx' | trim('x')
'a' | center(5) ~ '|'
'<a href="x">\'&amp;</a>' | e
'<b>bold</b>  and <i>x</i>' | striptags
'<b>' | safe
'<b>' | escape
'aXb' | replace('X', '-')
'aaa' | replace('a', 'b', 2)
5 | replace('5', 'five')
'%s-%d' | format('a', 3)
'%(a)s' | format(a='z')
'a\nb\n\nc' | indent
'a\nb\n\nc' | indent(2, true)
'a\nb\n\nc' | indent(2, blank=true)
'a\nb' | indent('> ')
'a\nb\n' | indent(2) ~ '|'
'foo bar baz qux' | truncate(9)
'foo bar baz qux' | truncate(9, true)
'foo bar baz qux' | truncate(11)
'foo bar baz qux' | truncate(11, false, '...', 0)
'foo bar baz' | wordcount
"it's a-b" | wordcount
'a b/c?ä=&' | urlencode
{'a': 'b c', 'd': 1} | urlencode
{'class': 'x', 'id': none, 'n': 1} | xmlattr
'42' | int
'42.9' | int
'abc' | int
'abc' | int(-1)
'0x1f' | int(0, 16)
'ff' | int(0, 16)
'1_000' | int
' 5 ' | int
3.9 | int
-3.9 | int
none | int
true | int
[] | int(5)
'3.5' | float
'abc' | float
'1e3' | float
'inf' | float
5 | float
none | float
2.5 | round
3.5 | round
2.675 | round(2)
42.55 | round(1, 'floor')
42.51 | round(1, 'ceil')
42 | round
1234 | round(-2)
1250.0 | round(-2)
1.5 | round(0, 'x')
-5 | abs
-2.5 | abs
'a' | abs
1 | filesizeformat
999 | filesizeformat
1000 | filesizeformat
1536 | filesizeformat(true)
1234567890 | filesizeformat
5 | string + 'x'
none | string
user | attr('name')
user | attr('items') is callable
name | attr('upper') is callable
user | tojson
user | tojson(indent=2)
user | tojson(indent=4, sort_keys=true)
uni | tojson
uni | tojson(ensure_ascii=true)
quote | tojson
floats | tojson
[1, 2.0, none, true, 'a', {'b': ()}] | tojson
{1: 2, none: 3, true: 4, 1.5: 5} | tojson
items | tojson(separators=(',', ':'))
items | tojson(none, 1)
[] | tojson(indent=2)
{} | tojson(indent=2)
'<>&\'' | tojson
undefined_name | tojson
range(3) | tojson
(items | map('string')) | tojson
floats
quote
[quote]
["'", '"', '\'"', 'é', '\x1b', '\u200b', '\xa0', '\U0001F600']
1.0 == 1
1e400
0.1 + 0.2
1e16
123456789.123456789
n is odd
n is even
n is divisibleby 7
n is divisibleby(2)
x is odd
name is odd
name is string
n is number
yes is number
n is integer
yes is integer
x is float
n is float
yes is boolean
yes is true
no is false
n is true
nothing is none
undefined_name is none
undefined_name is undefined
undefined_name is not defined
items is sequence
user is sequence
name is sequence
5 is sequence
undefined_name is sequence
user.items() is sequence
(items | map('string')) is sequence
items is iterable
5 is iterable
undefined_name is iterable
user is mapping
items is mapping
name is lower
'abc' is lower
'ABC' is upper
name is callable
range is callable
'upper' is filter
'nope' is filter
'odd' is test
1 is in [1, 2]
1 is in items and 2 is in items
n is eq 7
n is equalto(7)
n == 7 is true
n is gt 3
n is lessthan 3
n is ne 3
n is sameas n
none is sameas none
n is nosuchtest
n | nosuchfilter
name is string and n is number
name is not string or n is number
not name is string
items is sequence and items is not string
dict(a=1, b=2)
dict({'x': 1}, y=2)
dict([('a', 1)])
dict(a=1).a
namespace(a=1).a
namespace(a=1).b
namespace(a=1)
namespace(_a=1)
cycler('a', 'b').next()
joiner('|')()
user.pop('name')
items.append(4)
user.update({'a': 1})
items.sort()
items.copy()
items.count(1)
items.index(2)
items.index(9)
name.__class__
name.__class__.__mro__
name.__class__ is defined
''.join(['a', 'b']) | upper
raise_exception('boom')
raise_exception('é ' ~ name)
strftime_now('%Y-%m-%d')
strftime_now('%d %B %Y, %A %H:%M:%S %p %j %b %a %y %%')
strftime_now('%-d %e %I')
name()
undefined_name()
user.name()
(1, 2) is sequence
1 is number is true
[1, 2,]
{'a': 1,}
(1, 2,)
'a' 'b'
"a\x41\u00e9\101\q\n"
'\
x'
1.__class__
1 +
(1
[1
{'a' 1}
a b
'unclosed
1 ? 2
foo(a=1, 2)
foo(*[1], **{})
range(*[1, 4]) | list
dict(**{'a': 1})
'%s' | format(*[1])
x.is_integer()
2.0.is_integer()
words | map('length') | list
words | map('first') | map('upper') | join
words | sort | first | upper
words | select('in', ['fig', 'pear']) | list
-items[0]
-items | first
-5 | abs
not items | length > 2
items | length > 2 and words | length == 4
1 + items | length
'x' ~ items | length ~ 'y'
yes if no else no
[x for x in items]
lambda: 1
"""

TEMPLATES = [
    "{% for i in items %}{{ loop.index }}/{{ loop.length }}:{{ i }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% for i in items %}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }} {% endfor %}",
    "{% for i in items %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }} {% endfor %}",
    "{% for i in items %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }} {% endfor %}",
    "{% for i in items %}{{ loop.cycle('a', 'b') }}{{ loop.changed(i > 1) }}{% endfor %}",
    "{% for i in [] %}x{% else %}empty{% endfor %}",
    "{% for i in items if i > 1 %}{{ i }}{{ loop.length }}{{ loop.last }} {% else %}none{% endfor %}",
    "{% for i in items if i > 9 %}{{ i }}{% else %}none{% endfor %}",
    "{% for i in items %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in items %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% else %}else{% endfor %}",
    "{% for k, v in user.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in {'a': 1, 'b': 2} | items %}{{ k }}{{ v }}{% endfor %}",
    "{% for k in user %}{{ k }} {% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}",
    "{% for a, b in [(1,)] %}{{ a }}{% endfor %}",
    "{% for a, b in [5] %}{{ a }}{% endfor %}",
    "{% for c in 'añ' %}[{{ c }}]{% endfor %}",
    "{% for i in 5 %}{{ i }}{% endfor %}",
    "{% for i in undefined_name %}x{% else %}e{% endfor %}",
    "{% for i in none %}x{% endfor %}",
    "{% for i in range(3) %}{% for j in range(i) %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}",
    "{% for i in items recursive %}{{ i if i is number else loop(i) }}{% endfor %}",
    "{% for i in nested recursive %}{% if i is number %}{{ loop.depth }}:{{ i }} {% else %}{{ loop(i) }}{% endif %}{% endfor %}",
    "{% for i in items %}{{ loop(i) }}{% endfor %}",
    "{% for i in items %}{{ loop }}{% endfor %}",
    "{% for i in items|map('string') %}{{ loop.last }}{{ loop.length }}{% endfor %}",
    "{% set x = 1 %}{% for i in items %}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}",
    "{% set ns = namespace(x=1) %}{% for i in items %}{% set ns.x = ns.x + i %}{{ ns.x }} {% endfor %}{{ ns.x }}",
    "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}{{ ns.b is defined }}",
    "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}{{ ns['a'] }}",
    "{% set user.name = 1 %}", "{% set undefined_ns.a = 1 %}", "{% set ns = namespace() %}{% set ns._x = 1 %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a = 1, 2 %}{{ a }}", "{% set (a, b) = [1, 2] %}{{ b }}{{ a }}",
    "{% set a = b = 1 %}", "{% set true = 1 %}", "{% set 1 = 2 %}",
    "{% set x %}block {{ name }}{% endset %}[{{ x }}]", "{% set x | upper | trim %} block {% endset %}[{{ x }}]",
    "{% set x %}{% set y = 1 %}{% endset %}{{ y is defined }}", "{% if yes %}{% set y = 1 %}{% endif %}{{ y }}",
    "{% if no %}a{% elif yes %}b{% else %}c{% endif %}", "{% if no %}a{% elif no %}b{% else %}c{% endif %}",
    "{% if undefined_name %}a{% else %}b{% endif %}", "{% if items and 'x' not in words %}a{% endif %}",
    "{% if 1, %}a{% endif %}", "{% if %}a{% endif %}", "{% if yes %}a", "{% endif %}", "{% for i in items %}{% endif %}",
    "{% macro m(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(b=1, a=2) }}",
    "{% macro m(a, b=a) %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }}", "{% macro m(a) %}[{{ a }}]{% endmacro %}{{ m() }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}",
    "{% macro m(a) %}{{ a.x }}{% endmacro %}{{ m() }}", "{% macro m(a=1, b) %}{% endmacro %}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}",
    "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}body {{ name }}{% endcall %}",
    "{% macro m() %}[{{ caller(1, 2) }}]{% endmacro %}{% call(a, b) m() %}{{ a }}+{{ b }}{% endcall %}",
    "{% macro m() %}x{% endmacro %}{% call m() %}body{% endcall %}", "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}",
    "{% macro m(n) %}{{ n }}{% if n > 0 %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(5) }}",
    "{% macro m() %}{{ later }}{% endmacro %}{% set later = 1 %}{{ m() }}", "{% macro m() %}a{% endmacro %}{{ m }}{{ m.name }}",
    "{% for i in items %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}",
    "{% macro m(x) %}{{ x|trim }}{% endmacro %}{{ m('  a  ') ~ '|' }}{{ m(' b ')|upper }}",
    "{% macro m() %}\n  a\n{% endmacro %}[{{ m() }}]", "{% call 5 %}{% endcall %}",
    "{% filter upper %}abc {{ name }}{% endfilter %}", "{% filter replace('a', 'b') | upper %}aaa{% endfilter %}",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}", "{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}",
    "{% with a = 1 %}{% with a = a + 1, b = a %}{{ a }}{{ b }}{% endwith %}{% endwith %}",
    "{% generation %}abc{{ name }}{% endgeneration %}d", "{%- generation -%}  a  {%- endgeneration -%}  b",
    "{% generation %}{% set inner = 1 %}{% endgeneration %}{{ inner is defined }}",
    "{% for i in items %}{% generation %}{% break %}{% endgeneration %}{% endfor %}", "{% break %}", "{% continue %}",
    "{# comment #}a{#- b -#} c", "a {# x\ny #}\nb", "{# unclosed", "a{##}b", "{# {{ name }} #}x", "a\n  {# c #}\nb", "a\n  {#+ c +#}\nb",
    "{% raw %}{{ name }} {% if %}{% endraw %}x", "a {%- raw -%}  {{ x }}  {%- endraw -%}  b", "a\n  {% raw %}\n b \n  {% endraw %}\n c", "{% raw %}x",
    "a\n  {% if yes %}\n  b\n  {% endif %}\nc\n", "a\n  {%+ if yes %}\n  b\n  {%+ endif +%}\nc\n", "a\n  {%- if yes -%}\n  b\n  {%- endif -%}\nc\n",
    "  {% if yes %}x{% endif %}  \n  y", "x  {% if yes %} y {% endif %}", "{{ name }}\n\n", "{{ name -}}\n  x", "x  {{- name }}", "x  \n{{ name }}\n y",
    "\n{% if yes %}\n\n{% endif %}\n", "{% if yes +%}\na{% endif %}", "a\r\nb\rc\n{{ name }}\r\n", "\t{% set a = 1 %}\t{{ a }}",
    "{{ 'a}}b' }}", "{{ {'a': {'b': 1}} }}", "{{ {'a': {'b': 1}}['a']['b'] }}", "{% set d = {'k': '%}'} %}{{ d.k }}", "{{ '{{ x }}' }}",
    "{ { x } } {a} }} %} #}", "{{", "{{ }}", "{%", "{% %}", "{{ name", "{% if yes", "{{ name }", "{{ name %}", "{% unknown %}", "{{ name | }}", "{{ name. }}",
    "{{ name ]", "{{ (name] }}", "{{ name\n}}\n{{ undefined_name.x }}", "{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as y %}",
    "{% set x = namespace(v=none) %}{% for m in messages %}{% if m.role == 'user' %}{% set x.v = loop.index0 %}{% endif %}{% endfor %}{{ x.v }}",
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if undefined_name %}{{ 'x' }}{% endif %}",
    "{% for m in messages if m.role != 'system' %}{{ m.role }}{{ loop.index }}{% endfor %}",
    "{% set last = messages[-1] %}{{ last.content[7:8] }}{{ messages[::-1][0].role }}{{ messages|length - 1 }}",
    "{% set m = messages|selectattr('role', 'equalto', 'user')|list %}{{ m|length }}{{ m[0].content }}",
    "{% set g = messages|map(attribute='role') %}{{ g|list }}{{ g|list }}", "{% set g = items|select %}{% for i in g %}{{ i }}{% break %}{% endfor %}{{ g|list }}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.next() }}{{ c.reset() }}{{ c.current }}",
    "{% set j = joiner(', ') %}{% for i in items %}{{ j() }}{{ i }}{% endfor %}",
    "{% for i in items: %}{{ i }}{% endfor %}", "{% if yes: %}a{% endif %}", "{% print name, 1 %}", "{% block b %}x{{ name }}{% endblock %}", "{% block b %}x{% endblock b %}y",
    "{% autoescape false %}{{ '<' }}{% endautoescape %}", "{{ user.name.upper().lower().title() }}", "{{ (items|sort)[0] }}{{ (items|list)[-1] }}",
    "{% set x = [] %}{% for i in items %}{% set x = x + [i] %}{% endfor %}{{ x }}", "{% set ns = namespace(l=[]) %}{% for i in items %}{% set ns.l = ns.l + [i * 2] %}{% endfor %}{{ ns.l }}",
    "{% set ns = namespace(stop=false) %}{% for i in items if not ns.stop %}{{ i }}{% if i == 1 %}{% set ns.stop = true %}{% endif %}{% endfor %}",
    "{% for i in items %}{% for j in words if j != 'fig' %}{{ loop.index }}{{ i }}{{ j[0] }} {% endfor %}{% endfor %}",
    "line 1\nline 2 {{ 1 / 0 }}\n", "{% for i in items %}\n{{ i.x.y }}\n{% endfor %}", "\n\n{{ raise_exception('here') }}", "{% set x = name %}\n{% if x %}\n{{ x|nosuch }}{% endif %}",
    "{% if no %}{{ x|nosuch_unreached }}{% endif %}", "{{ loop is defined }}", "{% for loop in items %}{{ loop }}{% endfor %}",
]


def render(template):
    try:
        texts, _ = chat_template_utils.render_jinja_template([[]], chat_template=template, **{
            # `messages` is a parameter of its own
            key: value for key, value in CONTEXT.items() if key != "messages"
        }) if "messages" not in template else ([compiled(template)], None)
        return {"text": texts[0]}
    except Exception as error:
        kind = type(error).__name__
        result = {"error": kind}
        if kind in ("TemplateError", "UndefinedError"):
            result["message"] = str(error)
        return result


def compiled(template):
    return chat_template_utils._compile_jinja_template(template).render(**CONTEXT)


def main():
    chat_template_utils.datetime = Clock
    expressions = [line for line in EXPRESSIONS.strip().replace("'\\\nx'", "'\\\\x'").splitlines() if line]
    templates = [f"{{{{ {expression} }}}}" for expression in expressions] + TEMPLATES
    cases = [{"template": template, **render(template)} for template in templates]
    # Addresses of objects are not the same twice.
    cases = [case for case in cases if " at 0x" not in case.get("text", "")]
    fixture = {"context": CONTEXT, "cases": cases}
    Path(__file__).with_name("jinja.json").write_text(json.dumps(fixture, ensure_ascii=False, indent=0) + "\n")
    print(len(cases), "cases,", sum("error" in case for case in cases), "of them errors")


if __name__ == "__main__":
    main()
