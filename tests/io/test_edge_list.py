"""Edge lists say what they are: separators, columns, numbers, comments, and other formats that look like them."""

import warnings

import pytest

import linegraph as lg
from linegraph.errors import DataError, NonFiniteError, WeightNameWarning


def read(tmp_path, text, **arguments):
    path = tmp_path / "edges.txt"
    path.write_bytes(text.encode())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return lg.read_network(path, **arguments)


def edges(G):
    return [(u, v, w) for (u, v), w in zip(G.edge_index.T.tolist(), G.weight.tolist(), strict=True)]


CYCLE = [(0, 1, 0.5), (1, 2, 0.75), (2, 0, 1.5)]


@pytest.mark.parametrize(
    "text",
    [
        "1\t2 0.5\n2\t3 0.75\n3\t1 1.5\n",
        "1 2\t0.5\n2 3\t0.75\n3 1\t1.5\n",
        "1\t2\t0.5\n2 3 0.75\n3\t1 1.5\n",
        "a\tb\t0.5\nb c\t0.75\nc\ta 1.5\n",
        "source target\tweight\n1 2\t0.5\n2 3\t0.75\n3 1\t1.5\n",
        "source\ttarget\tweight\n1 2 0.5\n2 3 0.75\n3 1 1.5\n",
        "  1   2 \t 0.5 \n\t2 3\t\t0.75\n3 1 1.5\n",
        "1\t2\t0.5\t\r\n2\t3\t0.75\t\r\n3\t1\t1.5\t\r\n",
        "1 2 0.5\r2 3 0.75\r3 1 1.5\r",
    ],
)
def test_white_space_that_is_mixed_parts_the_columns(tmp_path, text):
    assert edges(read(tmp_path, text)) == CYCLE


@pytest.mark.parametrize(
    "text",
    [
        "1\t2 0.5\n2\t3\n",  # a weight in one line, none in the other
        "ann\tbob 1\ncid\tdan 2\n",  # or nodes called "bob 1"
        "ann bob\t1\nbob cid\t2\n",
        "1, 2 0.5\n2, 3 0.75\n",
        "1;2 0.5\n2;3 0.75\n",
        "1 2,0.5\n2 3,0.75\n",
        "1,2\t0.5\n2,3\t0.75\n",
        "1 2 0,5\n2 3 0,75\n",  # decimal commas
        "a b 0,5\nb c 0,75\n",
        "1;2\t0.5\n2;3\t0.75\n",
        "1\t2,0.5\n2\t3,0.75\n",
        "ann,bob\t1\nbob,cid\t2\n",
    ],
)
def test_separators_that_may_mean_two_tables_are_refused(tmp_path, text):
    with pytest.raises(DataError, match=r"edges.txt: line \d (mixes|has more|has fewer)"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("Formica rufa\tLasius niger\nLasius niger\tFormica rufa\n", 2),
        ("Node 1,Node 2\nNode 2,Node 3\n", 3),
        ('"ann"\t"bob 1"\n"bob 1"\t"ann"\n', 2),
        ('"a\tb"\tc\nc\td\n', 3),
        ('"a b" c\n"a\tb" c\n', 3),
    ],
)
def test_names_may_have_blanks(tmp_path, text, nodes):
    assert read(tmp_path, text).num_nodes == nodes


@pytest.mark.parametrize(
    "weight",
    [
        "1,5",
        "1.5D+01",
        "1.5d1",
        "0x1F",
        "1_000",
        "1.5abc",
        "1.5+01",
        "1e",
        "1e5e5",
        "--1",
        "50%",
        "1.5#2",
        "١",
        "True",
        "1/2",
    ],
)
@pytest.mark.parametrize(
    "line", ["1\t2\t{}", "source;target;weight\n1;2;{}", "source;target;Weight\n1;2;3\n2;1;{}", "1 2 1\n2 3 {}"]
)
def test_numbers_are_read_whole_or_refused_with_their_line(tmp_path, weight, line):
    text = line.format(weight) + "\n"
    path = tmp_path / "edges.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"the weight in line {text.count(chr(10))} is no finite number"):
        lg.read_network(path)


@pytest.mark.parametrize("weight", ["nan", "-inf", "Infinity", "1e999"])
def test_weights_that_are_not_finite_are_refused(tmp_path, weight):
    with pytest.raises(NonFiniteError, match=r"edges.txt: edge 0: the weight in line 1 is no finite number"):
        read(tmp_path, f"1 2 {weight}\n")


@pytest.mark.parametrize(
    "text",
    [
        "weight,source,target\n0.5,1,2\n0.75,2,3\n1.5,3,1\n",
        "target,source,weight\n2,1,0.5\n3,2,0.75\n1,3,1.5\n",
        "Target;Weight;Source\n2;0.5;1\n3;0.75;2\n1;1.5;3\n",
        "id,source,target,weight\n10,1,2,0.5\n11,2,3,0.75\n12,3,1,1.5\n",
        ",source,target,weight\n0,1,2,0.5\n1,2,3,0.75\n2,3,1,1.5\n",
        "time\tto\tfrom\tweight\n99\t2\t1\t0.5\n99\t3\t2\t0.75\n98\t1\t3\t1.5\n",
        "Source,Target,Type,Id,Label,timeset,Weight\n1,2,Directed,0,,,0.5\n2,3,Directed,1,,,0.75\n3,1,Directed,2,,,1.5\n",
        "weight dst_id src_id\n0.5 2 1\n0.75 3 2\n1.5 1 3\n",
        "weight,ToNodeId,FromNodeId\n0.5,2,1\n0.75,3,2\n1.5,1,3\n",
        "weight,node2,node1\n0.5,2,1\n0.75,3,2\n1.5,1,3\n",
        "WEIGHT,Protein_B,Protein_A\n0.5,2,1\n0.75,3,2\n1.5,1,3\n",
        "edge weight;destination;origin\n0.5;2;1\n0.75;3;2\n1.5;1;3\n",
        "# weight source target\n0.5 1 2\n0.75 2 3\n1.5 3 1\n",
        "# comment\n# target,source,weight,year\n2,1,0.5,1999\n3,2,0.75,1999\n1,3,1.5,2000\n",
    ],
)
def test_columns_are_known_by_their_names(tmp_path, text):
    assert edges(read(tmp_path, text)) == CYCLE


@pytest.mark.parametrize("column", ["timestamp", "time", "Edge ID", "id", "eventDate", "year", "label", "type", "t"])
def test_what_is_no_weight_is_none(tmp_path, column):
    assert read(tmp_path, f"source,target,{column}\n1,2,7\n2,3,8\n").weight.tolist() == [1, 1]
    assert read(tmp_path, f"source,target,{column},weight\n1,2,7,0.5\n").weight.tolist() == [0.5]
    assert read(tmp_path, f"source,target,{column}\n1,2,7\n2,3,8\n", weight=column).weight.tolist() == [7, 8]


def test_the_only_column_of_numbers_is_taken_and_said(tmp_path):
    path = tmp_path / "edges.csv"
    path.write_text("source,target,kind,flights\na,b,x,3\nb,c,y,4\n")
    with pytest.warns(WeightNameWarning, match="'flights'.*weight='flights'"):
        assert lg.read_network(path).weight.tolist() == [3, 4]
    assert lg.read_network(path, weight="flights").weight.tolist() == [3, 4]
    assert lg.read_network(path, weight=None).weight.tolist() == [1, 1]
    with pytest.raises(DataError, match=r"edges.csv: no edge .* attribute 'w'; there are: 'kind', 'flights'"):
        lg.read_network(path, weight="w")
    path.write_text("source,target,distance,flights\na,b,1,3\n")
    with pytest.raises(DataError, match=r"2 names: 'distance', 'flights'; name one with weight="):
        lg.read_network(path)
    assert lg.read_network(path, weight="distance").weight.tolist() == [1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,ant,plant\n1,2,3\n", "because of 'id' it is not clear which two are source and target"),
        ("weight,ant,plant\n1,2,3\n", "because of 'weight' it is not clear"),
        ("ant,source\n1,2\n", "because of 'source' it is not clear"),
        ("target,plant\n1,2\n", "because of 'target' it is not clear"),
        (",ant,plant\n1,2,3\n", "because of '' it is not clear"),
        ("source,target,from,to\n1,2,3,4\n", "more than one may be source or target"),
        ("source_id,source_name,target_id,target_name\n1,2,3,4\n", "more than one may be source or target"),
        ("source,target,x,x\n1,2,3,4\n", "two columns of one name"),
        ("source,target,Type\n1,2,Directed\n2,3,Undirected\n", "edges of one kind"),
        ("node1 node2\nnode3 node4\n", "may be a header or an edge"),
        ("u1 u2\nu3 u4\n", "may be a header or an edge"),
        ("Smith,J Doe,K\nRoe,L Poe,M\n", "may be a header or an edge"),
        ("1,2,0.5,9\n", "4 columns"),
        ("1|2|0.5\n", "1 columns"),
        ("source,target,weight\n1,2,0.5\n1,2\n", "line 3 has fewer than 3"),
        ("source,target,weight\n1,,0.5\n", "line 2 has fewer"),
        ("1,2,\n2,3,\n", "line 1 has fewer"),
        ("a\0b c\n", "NUL"),
    ],
)
def test_headers_that_contradict_the_columns_are_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "n", "expected"),
    [
        ("% sym unweighted\n% 2 3 3\n1 2\n2 3\n", 3, [(0, 1, 1), (1, 2, 1), (1, 0, 1), (2, 1, 1)]),
        ("% asym positive\n1\t2 3 1082040961\n2\t3 1 1082040962\n", 3, [(0, 1, 3), (1, 2, 1)]),
        ("% asym weighted\n% 1 5 5\n1 2 0.5\n", 5, [(0, 1, 0.5)]),
        (
            "% bip unweighted\n% 3 2 2\n1 1\n1 2\n2 2\n",
            4,
            [(0, 2, 1), (0, 3, 1), (1, 3, 1), (2, 0, 1), (3, 0, 1), (3, 1, 1)],
        ),
        ("% bip weighted\n7 7 0.5\n", 2, [(0, 1, 0.5), (1, 0, 0.5)]),
        (
            "# Undirected graph: x\n# Nodes: 3 Edges: 2\n# FromNodeId\tToNodeId\n1\t2\n2\t3\n",
            3,
            [(0, 1, 1), (1, 2, 1), (1, 0, 1), (2, 1, 1)],
        ),
        ("# Undirected graph\n1 2\n2 1\n", 2, [(0, 1, 1), (1, 0, 1)]),
        ("# Directed graph (each unordered pair of nodes is saved once)\n1\t2\n", 2, [(0, 1, 1)]),
        ("Source,Target,Type\n1,2,Undirected\n", 2, [(0, 1, 1), (1, 0, 1)]),
    ],
)
def test_comments_and_columns_say_the_direction(tmp_path, text, n, expected):
    G = read(tmp_path, text)
    assert G.num_nodes == n
    assert edges(G) == expected


def test_an_argument_outdoes_what_a_comment_says(tmp_path):
    assert read(tmp_path, "% sym unweighted\n1 2\n", directed=True).num_edges == 1
    assert read(tmp_path, "# Directed graph\n1 2\n", directed=False).num_edges == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("% bip unweighted\n% 3 2 2\n1 1\n1 2\n", "3 edges, and there are 2 lines"),
        ("% sym unweighted\n% 1 2 2\n1 3\n", "line 3 names the node 3, outside 1 to 2"),
        ("% sym unweighted\na b\n", "a node in line 2 is no number"),
        ("% asym unweighted\n1 2 7\n", "unweighted"),
        ("% asym dynamic\n1 2 1 99\n", "'dynamic' is not read"),
        ("% bip weigthed\n1 1 5\n", "line 1 says 'weigthed'"),
        ("% asym weighted\n% 1 99999999999 99999999999\n1 2 3\n", "declares 199,999,999,998 nodes"),
        ("# Nodes: 3 Edges: 5\n1 2\n2 3\n", "5 edges, and there are 2 lines"),
        ("# Undirected graph\n1 2\n2 1\n2 3\n", "some but not all are there in both ways"),
        ("# Undirected graph\n# directed\n1 2\n", "line 2 contradicts the comment before"),
    ],
)
def test_comments_that_contradict_the_lines_are_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)


OTHERS = {
    "METIS": "4 4\n2 4\n1 3\n2 4\n1 3\n",
    "METIS of uneven lines": "4 3\n2\n1 3\n2 4\n3\n",
    "numbers of nodes and edges": "5 4\n1 2\n2 3\n3 4\n4 5\n",
    "numbers of nodes and edges, from 0": "4 3\n0 1\n1 2\n2 3\n",
    "sizes of a matrix": "3 3 2\n1 2 0.5\n2 3 0.7\n",
    "SIF": "A pd 7157\nB pd 672\n",
    "arrows": "1 -> 2\n2 -> 3\n",
    "lists of neighbours": "1: 2\n2: 3\n",
    "adjacency matrix": "0,1,0\n1,0,1\n0,1,0\n",
    "weighted adjacency matrix": "0 2.5 1\n2.5 0 3\n1 3 0\n",
    "asymmetric adjacency matrix": "0 2 0\n1 0 0\n5 7 0\n",
    "larger adjacency matrix": "0 1 0 1\n1 0 1 0\n0 1 0 1\n1 0 1 0\n",
    "adjacency matrix of two nodes": "0,0.5\n0.2,0\n",
    "adjacency matrix under a header": "A,B,C\n0,1,0\n1,0,1\n0,1,0\n",
    "adjacency matrix with labels": ",A,B,C\nA,0,1,0\nB,1,0,1\nC,0,1,0\n",
    "adjacency matrix of two with labels": "x,A,B\nA,0,1\nB,1,0\n",
    "matrix of zeros and ones": "0 1 1\n1 0 1\n0 0 1\n1 1 1\n0 1 0\n",
    "JSON": "[[0, 1], [1, 2]]\n",
    "lines of JSON": "[0, 1]\n[1, 2]\n",
    "JSON object": '{"nodes": [], "links": []}\n',
    "tuples": "(0, 1)\n(1, 2)\n",
    "DOT": "digraph G {\n a -> b;\n}\n",
    "undirected DOT": "strict graph {\n a -- b\n}\n",
    "DL": "dl n=3 format=edgelist1\ndata:\n1 2\n",
    "GDF": "nodedef>name VARCHAR\na\nb\n",
    "DIMACS": "c hello\np edge 3 2\ne 1 2\ne 2 3\n",
    "DIMACS without a head": "e 1 2\ne 2 3\n",
    "TGF": "1 A\n2 B\n#\n1 2\n",
    "graph6": ">>graph6<<A_\n",
    "LEDA": "LEDA.GRAPH\nstring\nint\n",
    "HTML": "<!DOCTYPE html>\n<html/>\n",
    "dictionaries of networkx": "0 1 {}\n1 2 {}\n",
    "comments of C": "// source target\n1 2\n",
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats_are_no_edge_lists(tmp_path, name):
    with pytest.raises(DataError, match=r"edges\.txt: "):
        read(tmp_path, OTHERS[name])


def test_who_says_that_it_is_an_edge_list_is_believed(tmp_path):
    assert edges(read(tmp_path, "3 2\n1 2\n2 3\n", header=False)) == [(2, 1, 1), (0, 1, 1), (1, 2, 1)]
    assert edges(read(tmp_path, "5 4\n1 2\n2 3\n3 4\n4 5\n", header=True))[0] == (0, 1, 1)
    assert read(tmp_path, "source target weight\n0 1 0\n1 0 1\n0 1 0\n").num_edges == 3


@pytest.mark.parametrize(
    "text",
    [
        "1 2 0.5\n2 3 0.7\n3 1 0.5\n",
        "0 1\n1 2\n",
        "0 1\n1 0\n",
        "10,2\n2,01\n1,10\n",
        "e f 1\na e 2\n",
        "a pd\npd b\n",
        "hub 1 2.5\nhub 2 3.5\n",
    ],
)
def test_plain_edge_lists_are_not_taken_for_others(tmp_path, text):
    assert read(tmp_path, text).num_edges == len(text.splitlines())
