//! What several transitions want to be sent, as statements on their way: those of one text
//! in one, where that can be. Each transition's come in its order; between those of two
//! there is none, since they hold different rows.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::pipeline::{Answer, Outgoing, Text};
use super::rows::Parameter;
use super::setwise::Does;
use crate::store::Result;
use crate::store::sql::rows::{Columns as _, FromCell as _, Value, unreadable};

/// Bytes of parameters of one statement for many; what is more goes in the next.
const BYTES: usize = 1 << 20;

/// A statement that a transition wants to be sent.
pub(super) struct Item<'v> {
    /// Whose.
    pub member: usize,
    /// Which of the answers it waits for this is, if it waits for it.
    pub answer: Option<usize>,
    pub text: &'v Arc<Text>,
    pub values: Vec<Value<'v>>,
}

impl<'v> Item<'v> {
    /// By itself.
    fn outgoing(&self) -> Outgoing<'v> {
        Outgoing {
            text: self.text.one.clone(),
            values: self.values.iter().copied().map(Parameter::One).collect(),
        }
    }

    /// Bytes of its parameters, about.
    fn size(&self) -> usize {
        let sizes = self.values.iter().map(|value| match value {
            Value::Int(_) => size_of::<i64>(),
            Value::Text(text) => text.map_or(0, str::len),
            Value::Blob(bytes) => bytes.map_or(0, <[u8]>::len),
        });
        sizes.sum()
    }
}

/// Of whom a statement is.
pub(super) enum Whose {
    One(usize),
    /// Its answers are numbered.
    Numbered(Vec<usize>),
    /// Nobody waits for what it answers.
    Silent,
}

impl Whose {
    /// The answer to each, by its item.
    pub(super) fn share(self, answer: Answer) -> Result<Vec<(usize, Answer)>> {
        let items = match self {
            Self::Silent => return Ok(Vec::new()),
            Self::One(item) => return Ok(vec![(item, answer)]),
            Self::Numbered(items) => items,
        };
        let mut shares: Vec<(usize, Answer)> = items
            .into_iter()
            .map(|item| (item, Answer::default()))
            .collect();
        for mut row in answer.rows {
            let number = i64::from_cell(row.cell(0)?).and_then(|n| usize::try_from(n - 1).ok());
            let share = number.and_then(|number| shares.get_mut(number));
            let (_, share) = share.ok_or_else(|| unreadable(0, "number of a row"))?;
            row.before = 1;
            share.rows.push(row);
        }
        Ok(shares)
    }
}

/// The statements for these items, and whose each is.
pub(super) fn sent_for<'v>(items: &[Item<'v>]) -> (Vec<Outgoing<'v>>, Vec<Whose>) {
    let mut lines = Lines::of(items);
    let (mut sent, mut whose) = (Vec::new(), Vec::new());
    while let Some(text) = lines.next_text() {
        let many = lines.of_text(text);
        match together(items, text, &many) {
            Some((one, answers)) => {
                sent.push(one);
                whose.push(match answers {
                    Does::Asks => Whose::Numbered(many),
                    Does::Adds | Does::Changes => Whose::Silent,
                });
            }
            None => {
                sent.extend(many.iter().map(|item| items[*item].outgoing()));
                whose.extend(many.into_iter().map(Whose::One));
            }
        }
    }
    (sent, whose)
}

/// One statement for all of these, which have this text.
fn together<'v>(
    items: &[Item<'v>],
    text: &Arc<Text>,
    many: &[usize],
) -> Option<(Outgoing<'v>, Does)> {
    let [first, _, ..] = many else { return None };
    let width = items[*first].values.len();
    let (text, does) = text.many(width)?;
    // How many rows each has changed is not told.
    if does != Does::Asks && many.iter().any(|item| items[*item].answer.is_some()) {
        return None;
    }
    let column = |at: usize| {
        let values = many.iter().map(|item| items[*item].values.get(at).copied());
        Parameter::array(&values.collect::<Option<Vec<_>>>()?)
    };
    let values = (0..width).map(column).collect::<Option<_>>()?;
    Some((Outgoing { text, values }, does))
}

/// What is left of each transition's items, first to last.
struct Lines<'i, 'v> {
    items: &'i [Item<'v>],
    left: Vec<VecDeque<usize>>,
}

impl<'i, 'v> Lines<'i, 'v> {
    fn of(items: &'i [Item<'v>]) -> Self {
        let members = items.iter().map(|item| item.member + 1).max();
        let mut left = vec![VecDeque::new(); members.unwrap_or(0)];
        for (at, item) in items.iter().enumerate() {
            left[item.member].push_back(at);
        }
        Self { items, left }
    }

    /// The text that goes next: one that nobody has further behind another one, so that all
    /// go together.
    fn next_text(&self) -> Option<&'v Arc<Text>> {
        let fronts = || {
            let fronts = self.left.iter().filter_map(|line| line.front());
            fronts.map(|item| self.items[*item].text)
        };
        let behind = |text: &Arc<Text>| {
            self.left.iter().any(|line| {
                let rest = line.iter().map(|item| self.items[*item].text);
                let mut rest = rest.skip_while(|own| Arc::ptr_eq(own, text));
                rest.any(|own| Arc::ptr_eq(own, text))
            })
        };
        fronts()
            .find(|text| !behind(text))
            .or_else(|| fronts().next())
    }

    /// Takes those of this text that stand in front and can go together.
    fn of_text(&mut self, text: &Arc<Text>) -> Vec<usize> {
        let (mut many, mut keys, mut bytes) = (Vec::new(), HashSet::new(), 0);
        let mut fits = |item: &Item<'v>| {
            let size = item.size();
            let changes = text
                .many(item.values.len())
                .is_some_and(|(_, does)| does == Does::Changes);
            if bytes > 0 && bytes + size > BYTES
                || changes && !keys.insert(item.values.first().copied())
            {
                return false;
            }
            bytes += size;
            true
        };
        for line in &mut self.left {
            while let Some(&front) = line.front() {
                let item = &self.items[front];
                if !(Arc::ptr_eq(item.text, text) && fits(item)) {
                    break;
                }
                many.push(front);
                line.pop_front();
            }
        }
        many
    }
}

#[cfg(test)]
mod tests {
    use super::super::pipeline::Texts;
    use super::*;

    const ASK: &str = "SELECT a FROM t WHERE k = ?1";
    const OTHER: &str = "SELECT b FROM t WHERE k = ?1";
    const ADD: &str = "INSERT INTO t VALUES (?1)";
    const SET: &str = "UPDATE t SET a = ?2 WHERE k = ?1";

    /// What each of these wants, in order: its text and its parameters.
    fn sent(wanted: &[(usize, &str, &[Value<'_>])]) -> Vec<(String, usize)> {
        let texts = Texts::default();
        let all: Vec<_> = wanted.iter().map(|(_, sql, _)| texts.of(sql)).collect();
        let items = wanted
            .iter()
            .zip(&all)
            .map(|((member, sql, values), text)| Item {
                member: *member,
                answer: sql.starts_with("SELECT").then_some(0),
                text,
                values: values.to_vec(),
            });
        let items: Vec<_> = items.collect();
        let (sent, whose) = sent_for(&items);
        assert_eq!(sent.len(), whose.len());
        let rows = sent.iter().map(|one| match &one.values[0] {
            Parameter::One(_) => 1,
            Parameter::Ints(all) => all.len(),
            Parameter::Texts(all) => all.len(),
            Parameter::Blobs(all) => all.len(),
        });
        sent.iter()
            .map(|one| one.text.split(" t ").next().unwrap_or_default().to_owned())
            .zip(rows)
            .collect()
    }

    fn shape(sent: &[(String, usize)]) -> Vec<(&str, usize)> {
        let verb = |text: &'_ str| match text {
            text if text.contains("SELECT b") => "other",
            text if text.starts_with("SELECT") => "ask",
            text if text.starts_with("INSERT") => "add",
            _ => "set",
        };
        sent.iter()
            .map(|(text, rows)| (verb(text), *rows))
            .collect()
    }

    const fn int(number: i64) -> Value<'static> {
        Value::Int(Some(number))
    }

    #[test]
    fn those_of_one_text_go_together_wherever_they_stand() {
        let sent = sent(&[
            (0, ASK, &[int(1)]),
            (0, ADD, &[int(1)]),
            (1, OTHER, &[int(2)]),
            (1, ADD, &[int(2)]),
            (2, ASK, &[int(3)]),
            (2, OTHER, &[int(3)]),
            (2, ADD, &[int(3)]),
        ]);
        assert_eq!(shape(&sent), [("ask", 2), ("other", 2), ("add", 3)]);
    }

    #[test]
    fn each_ones_go_in_its_order() {
        // One of the two texts has to go twice.
        let sent = sent(&[
            (0, ASK, &[int(1)]),
            (0, OTHER, &[int(1)]),
            (1, OTHER, &[int(2)]),
            (1, ASK, &[int(2)]),
        ]);
        assert_eq!(shape(&sent), [("ask", 1), ("other", 2), ("ask", 1)]);
    }

    #[test]
    fn what_one_sends_alike_in_a_row_goes_together() {
        let sent = sent(&[
            (0, ADD, &[int(1)]),
            (0, ADD, &[int(2)]),
            (0, ASK, &[int(1)]),
        ]);
        assert_eq!(shape(&sent), [("add", 2), ("ask", 1)]);
    }

    #[test]
    fn nothing_is_changed_twice_by_one_statement() {
        let sent = sent(&[
            (0, SET, &[int(1), int(5)]),
            (1, SET, &[int(2), int(6)]),
            (2, SET, &[int(1), int(7)]),
        ]);
        assert_eq!(shape(&sent), [("set", 2), ("set", 1)]);
    }

    #[test]
    fn parameters_of_two_kinds_go_apart() {
        let sent = sent(&[(0, ASK, &[int(1)]), (1, ASK, &[Value::Text(Some("1"))])]);
        assert_eq!(shape(&sent), [("ask", 1), ("ask", 1)]);
    }

    #[test]
    fn no_statement_grows_beyond_so_many_bytes() {
        let bytes = vec![0; BYTES / 2];
        let one: &[Value<'_>] = &[Value::Blob(Some(&bytes))];
        let sent = sent(&[(0, ADD, one), (1, ADD, one), (2, ADD, one)]);
        assert_eq!(shape(&sent), [("add", 2), ("add", 1)]);
    }

    #[test]
    fn who_asks_how_many_rows_it_changed_goes_alone() {
        let texts = Texts::default();
        let text = texts.of(SET);
        let counted = |member| Item {
            member,
            answer: Some(0),
            text: &text,
            values: vec![int(1 + i64::try_from(member).expect("small")), int(5)],
        };
        let (sent, _) = sent_for(&[counted(0), counted(1)]);
        assert_eq!(sent.len(), 2);
    }
}
