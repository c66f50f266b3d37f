-- Conversations of the Playground.
CREATE TABLE chats (  -- conversations of the Playground: kept until a person deletes them, and nothing can rebuild them
    id TEXT PRIMARY KEY,  -- time of the first message and four characters, which the page's address shows
    name TEXT,  -- what a person calls it; until then the first words of the first message
    history TEXT,  -- what was said, JSON: {"branches": [[{"prompt", "replies": {column: reply}, "who": {column: model}}]], "current"}
    columns TEXT,  -- who replied last, JSON: [id of a chat model], one a column
    titles TEXT,  -- what the models were called, JSON: {id: title}
    settings TEXT,  -- system prompt and sampling of the latest reply, JSON: {name: value}
    words TEXT,  -- the name and all that was said in small letters, for the search
    created_at REAL,  -- seconds since 1970
    updated_at REAL  -- when something was said last, seconds since 1970
);
