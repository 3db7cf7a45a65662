"""Documents to chunks, chunks to vectors, questions to hits.

::

    from hybrid.retrieval import Chunker, Index, Retriever, SentenceEmbedder, load_documents

    documents = load_documents(Path("docs")).documents
    embedder = SentenceEmbedder(model)
    index = Index.build(documents, Chunker(model), embedder)
    hits = Retriever(index, embedder).search(["How often must the impeller be replaced?"], k=4)[0]

Importing this package loads no model library; each is imported by the first call that needs it.
"""

from hybrid.retrieval.chunk import Chunker
from hybrid.retrieval.embed import CachedEmbedder, Embedder, SentenceEmbedder, fingerprint_folder
from hybrid.retrieval.index import Index, IndexUpdate
from hybrid.retrieval.load import Loaded, Skipped, load_documents
from hybrid.retrieval.rerank import CrossEncoderReranker, Reranker
from hybrid.retrieval.retriever import Retriever, Searcher

__all__ = [
    "CachedEmbedder",
    "Chunker",
    "CrossEncoderReranker",
    "Embedder",
    "Index",
    "IndexUpdate",
    "Loaded",
    "Reranker",
    "Retriever",
    "Searcher",
    "SentenceEmbedder",
    "Skipped",
    "fingerprint_folder",
    "load_documents",
]
