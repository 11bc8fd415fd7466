"""Formulas as MathML, which browsers draw by themselves.

A page then needs neither a script nor fonts from the network, and a formula can be read aloud, copied and printed.
docutils converts LaTeX to MathML; this extension has Sphinx call it.
"""

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util.math import get_node_equation_number


def inline(translator, node):
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def block(translator, node):
    number = f'<span class="eqno">({get_node_equation_number(translator, node)})</span>' if node["number"] else ""
    formula = tex2mathml(node.astext(), as_block=True)
    translator.body.append(f'{translator.starttag(node, "div", CLASS="math")}{number}{formula}</div>')
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
