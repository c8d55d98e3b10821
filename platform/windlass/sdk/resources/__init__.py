"""The nouns: operations as flows, and for each noun a blocking and an asynchronous table of them."""
