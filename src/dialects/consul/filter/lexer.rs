//! Text to tokens.

use std::str::Chars;

use super::FilterError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    Open,
    Close,
    Equal,
    NotEqual,
    /// `A.B["k"]` in its parts. A keyword is one of a single part; so is an unquoted value.
    Path(Vec<String>),
    Number(String),
    /// It was quoted.
    Text(String),
}

/// A token and the byte it begins at.
pub type Placed = (usize, Token);

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

pub fn tokens(text: &str) -> Result<Vec<Placed>, FilterError> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_space();
        let at = lexer.at;
        let Some(token) = lexer.next()? else { return Ok(tokens) };
        tokens.push((at, token));
    }
}

impl<'a> Lexer<'a> {
    fn next(&mut self) -> Result<Option<Token>, FilterError> {
        let Some(first) = self.peek() else { return Ok(None) };
        let token = match first {
            '(' => self.take(1, Token::Open),
            ')' => self.take(1, Token::Close),
            '=' if self.rest().starts_with("==") => self.take(2, Token::Equal),
            '!' if self.rest().starts_with("!=") => self.take(2, Token::NotEqual),
            '"' | '`' => Token::Text(self.quoted()?),
            '-' | '0'..='9' => Token::Number(self.number()?),
            c if c.is_ascii_alphabetic() => Token::Path(self.path()?),
            _ => return Err(self.expected("a selector, a value, \"(\", \")\", \"==\" or \"!=\"")),
        };
        Ok(Some(token))
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self, bytes: usize, token: Token) -> Token {
        self.at += bytes;
        token
    }

    fn expected(&self, expected: &'static str) -> FilterError {
        FilterError::Syntax { at: self.at, expected }
    }

    fn skip_space(&mut self) {
        self.at += self.run(|c| matches!(c, ' ' | '\t' | '\r' | '\n')).len();
    }

    /// What lies ahead as long as `is_part` holds.
    fn run(&self, is_part: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())]
    }

    fn path(&mut self) -> Result<Vec<String>, FilterError> {
        let mut parts = vec![self.identifier()?];
        loop {
            if self.rest().starts_with('.') {
                self.at += 1;
                parts.push(self.identifier()?);
            } else if self.rest().starts_with('[') {
                self.at += 1;
                self.skip_space();
                if !self.rest().starts_with(['"', '`']) {
                    return Err(self.expected("a quoted key"));
                }
                parts.push(self.quoted()?);
                self.skip_space();
                if !self.rest().starts_with(']') {
                    return Err(self.expected("\"]\""));
                }
                self.at += 1;
            } else {
                return Ok(parts);
            }
        }
    }

    fn identifier(&mut self) -> Result<String, FilterError> {
        if !self.peek().is_some_and(|c| c.is_ascii_alphabetic()) {
            return Err(self.expected("[a-zA-Z]"));
        }
        let name = self.run(|c| c.is_ascii_alphanumeric() || c == '_' || c == '/').to_owned();
        self.at += name.len();
        Ok(name)
    }

    /// `-`, digits without leading zeros, a fraction; then a space, `)` or the end.
    fn number(&mut self) -> Result<String, FilterError> {
        let start = self.at;
        let wrong = self.expected("a number");
        self.at += usize::from(self.rest().starts_with('-'));
        let whole = self.run(|c| c.is_ascii_digit());
        if whole.is_empty() || (whole.len() > 1 && whole.starts_with('0')) {
            return Err(wrong);
        }
        self.at += whole.len();
        if self.rest().starts_with('.') {
            self.at += 1;
            let fraction = self.run(|c| c.is_ascii_digit()).len();
            if fraction == 0 {
                return Err(self.expected("[0-9]"));
            }
            self.at += fraction;
        }
        match self.peek() {
            None | Some(' ' | '\t' | '\r' | '\n' | ')') => Ok(self.text[start..self.at].to_owned()),
            Some(_) => Err(self.expected("\")\", a space or the end")),
        }
    }

    /// What stands between two quotes: as it is between back quotes, with escapes between double ones.
    fn quoted(&mut self) -> Result<String, FilterError> {
        let unclosed = self.expected("a text with an end");
        let mut rest = self.rest().chars();
        let quote = rest.next();
        let mut text = String::new();
        loop {
            match rest.next() {
                None => return Err(unclosed),
                Some(c) if Some(c) == quote => break,
                Some('\\') if quote == Some('"') => match unescape(&mut rest) {
                    Some(c) => text.push(c),
                    None => return Err(FilterError::Syntax { at: self.at, expected: "a text with Go's escapes" }),
                },
                Some(c) => text.push(c),
            }
        }
        self.at = self.text.len() - rest.as_str().len();
        Ok(text)
    }
}

/// The character that is written behind a backslash.
fn unescape(rest: &mut Chars<'_>) -> Option<char> {
    let code = |rest: &mut Chars<'_>, digits: usize| {
        let mut number = 0;
        for _ in 0..digits {
            number = number * 16 + rest.next()?.to_digit(16)?;
        }
        char::from_u32(number)
    };
    Some(match rest.next()? {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        c @ ('\\' | '"' | '\'') => c,
        'x' => code(rest, 2)?,
        'u' => code(rest, 4)?,
        'U' => code(rest, 8)?,
        _ => return None,
    })
}
