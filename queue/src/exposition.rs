//! Prometheus' text format, version 0.0.4, of queue and daemon alike.

use std::fmt::Write as _;

/// Its media type.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only grows while the process lives.
    Counter,
}

/// A document that grows metric by metric.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    name: &'static str,
}

impl Page {
    /// Begins a metric; its values follow.
    pub fn metric(&mut self, kind: Kind, name: &'static str, help: &str) -> &mut Self {
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        self.head(kind, name, help);
        self
    }

    /// A value of the metric that was begun.
    pub fn value(&mut self, labels: &[(&str, &str)], value: u64) -> &mut Self {
        let name = self.name;
        self.line(name, labels, &value.to_string());
        self
    }

    /// A whole histogram in seconds: counts of values up to each bound, which grow, then
    /// the count and the sum of all.
    pub fn histogram(&mut self, name: &'static str, help: &str, values: &[Distribution<'_>]) {
        self.head("histogram", name, help);
        for of in values {
            let with = |bound: &str| {
                let mut labels = of.labels.to_vec();
                labels.push(("le", bound));
                labels
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect::<Vec<_>>()
            };
            let bounds = of
                .up_to
                .iter()
                .map(|(bound, count)| (bound.to_string(), *count));
            let infinite = std::iter::once(("+Inf".to_owned(), of.count));
            for (bound, count) in bounds.chain(infinite) {
                let labels = with(&bound);
                let labels: Vec<_> = labels.iter().map(|(k, v)| (&**k, &**v)).collect();
                self.line(&format!("{name}_bucket"), &labels, &count.to_string());
            }
            self.line(&format!("{name}_sum"), of.labels, &of.sum.to_string());
            self.line(&format!("{name}_count"), of.labels, &of.count.to_string());
        }
    }

    /// The document.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }

    fn head(&mut self, kind: &str, name: &'static str, help: &str) {
        self.name = name;
        writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}")
            .expect("invariant: a String grows as needed");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: &str) {
        self.text.push_str(name);
        for (index, (key, value)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            self.text.push_str(key);
            self.text.push_str("=\"");
            for c in value.chars() {
                match c {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    c => self.text.push(c),
                }
            }
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        self.text.push(' ');
        self.text.push_str(value);
        self.text.push('\n');
    }
}

/// What a histogram says of one set of labels.
#[derive(Debug)]
pub struct Distribution<'a> {
    /// Which set.
    pub labels: &'a [(&'a str, &'a str)],
    /// Bounds in seconds, and how many values are not above.
    pub up_to: Vec<(f64, u64)>,
    /// Values.
    pub count: u64,
    /// Their sum in seconds.
    pub sum: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_buckets_have_an_end() {
        let mut page = Page::default();
        page.metric(Kind::Gauge, "jobs", "Jobs.")
            .value(&[], 1)
            .value(&[("pool", "{\"a\":\"\\\n\"}"), ("status", "pending")], 2);
        let up_to = vec![(0.005, 3), (1.0, 4)];
        page.histogram(
            "wait_seconds",
            "Wait.",
            &[Distribution {
                labels: &[],
                up_to,
                count: 5,
                sum: 7.5,
            }],
        );
        assert_eq!(
            page.into_text(),
            r#"# HELP jobs Jobs.
# TYPE jobs gauge
jobs 1
jobs{pool="{\"a\":\"\\\n\"}",status="pending"} 2
# HELP wait_seconds Wait.
# TYPE wait_seconds histogram
wait_seconds_bucket{le="0.005"} 3
wait_seconds_bucket{le="1"} 4
wait_seconds_bucket{le="+Inf"} 5
wait_seconds_sum 7.5
wait_seconds_count 5
"#
        );
    }
}
